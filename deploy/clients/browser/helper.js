import { S3Client } from '@aws-sdk/client-s3'
import { brokerCredentials } from 'credential-broker-client'

/** A client of the bucket with the broker's credentials; getToken is auth0.getTokenSilently or the like. */
export async function connect(broker, getToken) {
  const credentials = brokerCredentials({ url: broker, getToken })
  const { bucket, region, prefix } = await credentials.ready()
  return { s3: new S3Client({ region, credentials, systemClockOffset: credentials.clockOffset }), bucket, prefix }
}
