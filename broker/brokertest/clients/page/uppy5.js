import { connect } from '../../../../deploy/clients/browser/helper.js'
import { afresh, newUppy } from '../../../../deploy/clients/browser/uppy5.js'
import { filesOf, page, readBack, tokens, uploadAll } from './kit.js'

page(async (call) => {
  const uppy = await newUppy(call.broker, tokens(call))
  const plugin = () => uppy.getPlugin('AwsS3Multipart')
  if (call.outside)
    plugin().setOptions({ getUploadParameters: (file, options) => plugin().createSignedURL(file, { ...options, key: call.prefix + file.name }) })
  const files = await filesOf(call)
  if (call.twice) {
    // The first attempt fails. So does the second, although the broker is well again; the third is made afresh.
    const tries = []
    for (const make of [() => {}, () => {}, () => afresh(uppy, tokens(call))]) {
      uppy.clear()
      await make()
      tries.push(await uploadAll(call, uppy, files.slice(0, 1)).then(() => 'done', (error) => error.message))
    }
    return tries.join(' | ')
  }
  await uploadAll(call, uppy, files)
  const { s3, bucket, prefix } = await connect(call.broker, tokens(call))
  return readBack(call, s3, bucket, prefix)
})
