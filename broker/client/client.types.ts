// What client.d.ts promises, held against the types of the libraries. Only the compiler reads this file.
import type { CredentialsAndIdentityIdProvider } from '@aws-amplify/core'
import type { LocationCredentialsProvider } from '@aws-amplify/storage/internals'
import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import AwsS3, { type AwsS3Options } from '@uppy/aws-s3'
import Uppy from '@uppy/core'
import { BrokerError, brokerCredentials, type Access, type BrokerScope, type CredentialsInfo } from 'credential-broker-client'

const credentials = brokerCredentials({
  url: 'https://broker.example',
  getToken: async ({ fresh }) => (fresh ? 'new' : 'kept'),
  access: ['list', 'write'],
  duration: 900,
  signal: new AbortController().signal,
  fetch: (url, init) => globalThis.fetch(url, init),
  onCredentials: (info: CredentialsInfo) => info.expiration.getTime() + info.clockOffset,
})

new S3Client({ credentials, region: async () => (await credentials.ready()).region, systemClockOffset: credentials.clockOffset ?? 0 })
credentials satisfies NonNullable<S3ClientConfig['credentials']>

new Uppy().use(AwsS3, { s3Endpoint: 'https://bucket.s3.eu-west-1.amazonaws.com', getCredentials: credentials.uppy() })
credentials.uppy() satisfies Extract<AwsS3Options<any, any>, { getCredentials: unknown }>['getCredentials']

credentials.amplify() satisfies CredentialsAndIdentityIdProvider
credentials.amplify().locationCredentialsProvider satisfies LocationCredentialsProvider

const scope: BrokerScope = await credentials.ready()
const access: readonly Access[] = scope.access
const expiration: Date = (await credentials({ forceRefresh: true })).expiration
const bucket: string | undefined = credentials.bucket
await (credentials.signOut() satisfies Promise<void>)
const error: unknown = new BrokerError('network', 'no answer')
if (error instanceof BrokerError) error.code satisfies string
void [access, expiration, bucket]

// @ts-expect-error: before there are credentials there is no bucket
credentials.bucket satisfies string
// @ts-expect-error: what is there is read only
credentials.bucket = 'another'
// @ts-expect-error: a misspelt option would give more than was asked for
brokerCredentials({ url: '', getToken: () => '', acces: 'read' })
// @ts-expect-error: nothing else can be done
brokerCredentials({ url: '', getToken: () => '', access: ['admin'] })
// @ts-expect-error: somebody has to be signed in
brokerCredentials({ url: '' })
