import { downloadData, list, uploadData } from '@aws-amplify/storage'
import { configure } from '../../../../deploy/clients/browser/amplify.js'
import { filesOf, handIn, later, page, tokens } from './kit.js'

page(async (call) => {
  let upload = await configure(call.broker, tokens(call))
  if (call.outside) upload = (file) => uploadData({ path: call.prefix + file.name, data: file }).result
  for (const file of await filesOf(call)) {
    await upload(file)
    await later(call)
  }
  const names = []
  for (const { path } of (await list({ path: `${call.prefix}${call.name}-`, options: { listAll: true } })).items) {
    const { body } = await downloadData({ path }).result
    names.push(await handIn(call, path, await body.blob()))
  }
  return names.join(' ')
})
