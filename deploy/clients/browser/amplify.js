import { Amplify } from '@aws-amplify/core'
import { uploadData } from '@aws-amplify/storage'
import { brokerCredentials } from 'credential-broker-client'

/** Configures Amplify Storage; what comes back puts a File, in parts from 5 MiB on. */
export async function configure(broker, getToken) {
  const credentials = brokerCredentials({ url: broker, getToken })
  const { bucket, region, prefix } = await credentials.ready()
  Amplify.configure({ Storage: { S3: { bucket, region } } }, { Auth: { credentialsProvider: credentials.amplify() } })
  return (file) => uploadData({ path: prefix + file.name, data: file, options: { contentType: file.type } }).result
}
