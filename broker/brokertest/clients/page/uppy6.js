import { connect } from '../../../../deploy/clients/browser/helper.js'
import { newUppy } from '../../../../deploy/clients/browser/uppy6.js'
import { filesOf, page, readBack, tokens, uploadAll } from './kit.js'

page(async (call) => {
  const uppy = await newUppy(call.broker, tokens(call))
  if (call.outside) uppy.getPlugin('AwsS3').setOptions({ generateObjectKey: (file) => call.prefix + file.name })
  await uploadAll(call, uppy, await filesOf(call))
  const { s3, bucket, prefix } = await connect(call.broker, tokens(call))
  return readBack(call, s3, bucket, prefix)
})
