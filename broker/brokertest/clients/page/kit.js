// What the pages of the tests share. Each page has run(call): it puts the files, lists them, reads them back and hands
// them to the test.
import { GetObjectCommand, ListObjectsV2Command } from '@aws-sdk/client-s3'

/** The files of a call, a small and a large one, each under a name that no other call has. */
export const filesOf = (call) =>
  Promise.all(
    call.files.map(async (name) => {
      const response = await fetch(`/run/${call.id}/${name}`)
      return new File([await response.arrayBuffer()], `${call.name}-${name}`, { type: 'application/octet-stream' })
    }),
  )

export const handIn = async (call, key, body) => {
  const name = key.split('/').at(-1).replace(`${call.name}-`, '')
  const response = await fetch(`/back/${call.id}/${name}`, { method: 'PUT', body })
  if (!response.ok) throw new Error(`hand in ${name}: ${response.status}`)
  return name
}

/** Lists and reads back with the SDK: what an uploader cannot. */
export async function readBack(call, s3, bucket, prefix) {
  const names = []
  const { Contents = [] } = await s3.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: `${prefix}${call.name}-` }))
  for (const { Key } of Contents) {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key }))
    names.push(await handIn(call, Key, await new Response(Body).blob()))
  }
  return names.join(' ')
}

/** Adds the files one after the other, and throws what Uppy shows for one that fails. */
export async function uploadAll(call, uppy, files) {
  for (const [i, file] of files.entries()) {
    if (i) await later(call)
    uppy.addFile({ name: file.name, type: file.type, data: file })
    const { failed } = await uppy.upload()
    for (const { error } of failed) throw new Error(error)
  }
}

/** In a call that is to renew, time passes: all but half a minute of a session. */
export const later = (call) => call.renew && window.fastForward()

/** getToken, with another token where the page gives Uppy 5 its own. */
export const tokens = (call) => async (options) => ('fresh' in options ? (call.goodToken || call.token) : call.token)

// The SDK puts what the broker says beside its own message.
const words = (error) => (error ? `${error.message ?? error} ${error.Code ?? ''} ${error.Message ?? ''} ${words(error.cause)}` : '')

export const page = (run) => {
  window.run = async (call) => {
    try {
      return { ok: true, said: await run(call) }
    } catch (error) {
      return { ok: false, said: words(error) }
    }
  }
}
