import { connect } from '../../../../deploy/clients/browser/fromhttp.js'
import { upload } from '../../../../deploy/clients/browser/upload.js'
import { filesOf, later, page, readBack } from './kit.js'

page(async (call) => {
  const s3 = connect(call.broker, call.token, call)
  for (const file of await filesOf(call)) {
    await upload({ s3, bucket: call.bucket, prefix: call.prefix }, file)
    await later(call)
  }
  return readBack(call, s3, call.bucket, call.prefix)
})
