import { Upload } from '@aws-sdk/lib-storage'

/** Puts a File under its own name, in parts if it is large. */
export const upload = ({ s3, bucket, prefix }, file) =>
  new Upload({ client: s3, params: { Bucket: bucket, Key: prefix + file.name, Body: file, ContentType: file.type } }).done()
