import { connect } from '../../../../deploy/clients/browser/helper.js'
import { upload } from '../../../../deploy/clients/browser/upload.js'
import { filesOf, later, page, readBack, tokens } from './kit.js'

page(async (call) => {
  const { s3, bucket, prefix } = await connect(call.broker, tokens(call))
  if (!call.outside && prefix !== call.prefix) throw new Error(`the prefix is ${prefix}`)
  for (const file of await filesOf(call)) {
    await upload({ s3, bucket, prefix: call.prefix }, file)
    await later(call)
  }
  return readBack(call, s3, bucket, call.prefix)
})
