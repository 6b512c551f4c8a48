// The caller's files, with the AWS SDK alone: list, download, delete, and a sample upload. Uploads of people's own
// files are Uppy's (upload.ts).
import { DeleteObjectCommand, GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import type { Broker, BrokerScope } from './broker'
import type { Config } from './config'

export interface File {
  key: string
  name: string
  size: number
  modified: Date | undefined
}
export interface Listing {
  folders: { prefix: string; name: string }[]
  files: File[]
  /** Where the next page begins, if there is one. */
  next: string | undefined
}

const suffix = (region: string) => (region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com')
/** A bucket with a dot in its name has no certificate for a host of its own. */
const pathStyle = (config: Config, scope: BrokerScope) => Boolean(config.s3) || scope.bucket.includes('.')

export function s3Client(config: Config, scope: BrokerScope, credentials: Broker['credentials'], maxAttempts = 4) {
  return new S3Client({
    region: scope.region,
    credentials,
    maxAttempts,
    forcePathStyle: pathStyle(config, scope),
    ...(config.s3 ? { endpoint: config.s3 } : {}),
  })
}

/** The bucket's address, as Uppy wants it. */
export function bucketUrl(config: Config, scope: BrokerScope) {
  const host = `s3.${scope.region}.${suffix(scope.region)}`
  if (pathStyle(config, scope)) return `${config.s3 ?? `https://${host}`}/${scope.bucket}`
  return `https://${scope.bucket}.${host}`
}

export async function list(s3: S3Client, bucket: string, prefix: string, from?: string): Promise<Listing> {
  const page = await s3.send(
    new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, Delimiter: '/', MaxKeys: 200, ContinuationToken: from }),
  )
  const name = (key = '') => key.slice(prefix.length)
  return {
    folders: (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => ({ prefix: Prefix, name: name(Prefix).replace(/\/$/, '') })),
    files: (page.Contents ?? [])
      .filter(({ Key }) => Key !== prefix) // some tools make an empty object for a folder
      .map(({ Key = '', Size = 0, LastModified }) => ({ key: Key, name: name(Key), size: Size, modified: LastModified })),
    next: page.NextContinuationToken,
  }
}

export async function remove(s3: S3Client, bucket: string, key: string) {
  await s3.send(new DeleteObjectCommand({ Bucket: bucket, Key: key }))
}

/** Fetches a file and hands it to the browser to save: no signed address is left in a history or a log. */
export async function download(s3: S3Client, bucket: string, file: File, onProgress: (share: number) => void) {
  const { Body, ContentType } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: file.key }))
  const chunks: BlobPart[] = []
  let loaded = 0
  for (const reader = (Body!.transformToWebStream() as ReadableStream<Uint8Array<ArrayBuffer>>).getReader(); ; ) {
    const { done, value } = await reader.read()
    if (done) break
    chunks.push(value)
    loaded += value.length
    onProgress(file.size ? loaded / file.size : 1)
  }
  const address = URL.createObjectURL(new Blob(chunks, { type: ContentType ?? 'application/octet-stream' }))
  const anchor = document.createElement('a')
  anchor.href = address
  anchor.download = file.name
  anchor.click()
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}

/** Bytes of no meaning, in parts of 5 MiB, for those who have no large file at hand. */
export async function uploadSample(s3: S3Client, bucket: string, key: string, megabytes: number, onProgress: (share: number) => void, signal: AbortSignal) {
  const body = new Uint8Array(megabytes * 1_000_000) // not a Blob: of one the SDK makes slow Buffers, to take their checksum
  for (let at = 0; at < body.length; at += 50_000) crypto.getRandomValues(body.subarray(at, at + 50_000)) // 65,536 at a time at most
  const upload = new Upload({ client: s3, params: { Bucket: bucket, Key: key, Body: body }, queueSize: 3 })
  upload.on('httpUploadProgress', ({ loaded = 0 }) => onProgress(loaded / body.length))
  signal.addEventListener('abort', () => void upload.abort())
  await upload.done()
}

/** A name as a key's last part: what S3, browsers and file systems all take. */
export function safeName(name: string) {
  const clean = name
    .normalize('NFC')
    .replace(/[\u0000-\u001f\u007f\\/]/g, '_')
    .replace(/^\.{1,2}$/, '_')
    .trim()
  return clean || '_'
}
