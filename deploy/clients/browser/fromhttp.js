import { S3Client } from '@aws-sdk/client-s3'
import { fromHttp } from '@aws-sdk/credential-provider-http'

/** A client with the broker's credentials, for as long as this one token lives. What it may reach tells /v1/grants. */
export const connect = (broker, token, { region }) =>
  new S3Client({
    region,
    credentials: fromHttp({ credentialsFullUri: `${broker}/v1/credentials`, authorizationToken: `Bearer ${token}`, maxRetries: 1 }),
  })
