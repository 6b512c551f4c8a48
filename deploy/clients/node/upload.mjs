// upload.mjs BUCKET PREFIX FILE...: puts the files, lists them, and fetches them back into ./back
import { createReadStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { GetObjectCommand, paginateListObjectsV2, S3Client } from '@aws-sdk/client-s3'
import { fromHttp } from '@aws-sdk/credential-provider-http'
import { Upload } from '@aws-sdk/lib-storage'

const [bucket, prefix, ...files] = process.argv.slice(2)
// fromHttp reads the variables. The SDK's default chain does so too, after it has looked at the other places.
const s3 = new S3Client({ credentials: fromHttp() })

for (const file of files)
  await new Upload({ client: s3, params: { Bucket: bucket, Key: prefix + basename(file), Body: createReadStream(file) } }).done()
await mkdir('back', { recursive: true })
for await (const page of paginateListObjectsV2({ client: s3 }, { Bucket: bucket, Prefix: prefix }))
  for (const { Key, Size } of page.Contents ?? []) {
    console.log(Key, Size)
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key }))
    await writeFile(join('back', basename(Key)), Body)
  }
