import AwsS3 from '@uppy/aws-s3' // 6
import Uppy from '@uppy/core'
import { brokerCredentials } from 'credential-broker-client'

export async function newUppy(broker, getToken) {
  const credentials = brokerCredentials({ url: broker, getToken })
  const { bucket, region, prefix } = await credentials.ready()
  return new Uppy().use(AwsS3, {
    s3Endpoint: `https://${bucket}.s3.${region}.amazonaws.com`,
    region,
    getCredentials: credentials.uppy(),
    generateObjectKey: (file) => prefix + file.name, // Uppy's own key lies outside of the prefix: AccessDenied
    shouldUseMultipart: (file) => file.size > 8 * 2 ** 20,
  })
}
