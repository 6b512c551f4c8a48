import {
  AbortMultipartUploadCommand, CompleteMultipartUploadCommand, CreateMultipartUploadCommand, ListPartsCommand, S3Client,
} from '@aws-sdk/client-s3'
import AwsS3 from '@uppy/aws-s3' // 5
import Uppy from '@uppy/core'
import { brokerCredentials } from 'credential-broker-client'

export async function newUppy(broker, getToken) {
  const credentials = brokerCredentials({ url: broker, getToken })
  const { bucket: Bucket, region, prefix } = await credentials.ready()
  // Uppy 5 signs what it puts by itself, but begins and ends an upload in parts at a Companion: here, at S3.
  const s3 = new S3Client({ region, credentials })
  const at = ({ key: Key, uploadId: UploadId }) => ({ Bucket, Key, UploadId })

  const uppy = new Uppy()
  uppy.use(AwsS3, {
    endpoint: broker, // asked for /s3/sts
    headers: { authorization: `Bearer ${await getToken({})}` },
    getTemporarySecurityCredentials: true,
    // Without a key of ours Uppy takes one outside of the prefix: AccessDenied.
    getUploadParameters: (file, options) => uppy.getPlugin('AwsS3Multipart').createSignedURL(file, { ...options, key: prefix + file.name }),
    shouldUseMultipart: (file) => file.size > 8 * 2 ** 20,
    createMultipartUpload: async (file) => {
      const { UploadId, Key } = await s3.send(new CreateMultipartUploadCommand({ Bucket, Key: prefix + file.name, ContentType: file.type }))
      return { uploadId: UploadId, key: Key }
    },
    listParts: async (file, upload) => (await s3.send(new ListPartsCommand(at(upload)))).Parts ?? [],
    completeMultipartUpload: async (file, upload) => {
      const Parts = upload.parts.map(({ PartNumber, ETag }) => ({ PartNumber, ETag }))
      const { Location } = await s3.send(new CompleteMultipartUploadCommand({ ...at(upload), MultipartUpload: { Parts } }))
      return { location: Location }
    },
    abortMultipartUpload: (file, upload) => s3.send(new AbortMultipartUploadCommand(at(upload))),
  })
  return uppy
}

/** The plugin keeps a failure of /s3/sts, and the one token it was given, for good: take another one. */
export async function afresh(uppy, getToken) {
  const plugin = uppy.getPlugin('AwsS3Multipart')
  const options = { ...plugin.opts, headers: { authorization: `Bearer ${await getToken({ fresh: true })}` } }
  uppy.removePlugin(plugin)
  uppy.use(AwsS3, options)
}
