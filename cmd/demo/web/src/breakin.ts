// The ways out of a tenant, really tried, with the caller's own credentials and token. Nothing is simulated: what is
// shown is what S3 and STS say.
import { GetObjectCommand, ListBucketsCommand, ListObjectsV2Command, PutObjectCommand, type S3ServiceException } from '@aws-sdk/client-s3'
import { AssumeRoleWithWebIdentityCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts'
import type { Auth } from './auth'
import type { Broker, BrokerScope } from './broker'
import type { Config } from './config'
import { s3Client } from './s3'

export type AttemptName = 'read' | 'list' | 'write' | 'sts'
export const attemptNames: readonly AttemptName[] = ['read', 'list', 'write', 'sts']

export interface Answer {
  service: 'S3' | 'STS'
  /** What was asked, as one would write it down. */
  asked: string
  /** `refused` is what should be; `reached` is a hole; `unread`: no answer that says either. */
  verdict: 'allowed' | 'refused' | 'reached' | 'unread'
  status: number | undefined
  code: string
  message: string
}

export interface World {
  config: Config
  scope: BrokerScope
  broker: Broker
  auth: Auth
  /** Another tenant's file, to reach for. */
  target: string
}

/** A folder that begins as ours does and is not ours: what a careless prefix would let in. */
export const besidePrefix = (prefix: string) => prefix.replace(/\/$/, '2/')

/** Another tenant's file: one of the demo's, or one that nobody knows to exist. S3 must answer the same for both. */
export const likelyTarget = (config: Config, scope: BrokerScope) =>
  config.demo?.files.find((key) => !key.startsWith(scope.prefix)) ?? `${besidePrefix(scope.prefix)}secret.txt`

/** The codes by which a wall is told. Any other refusal (a clock, a signature, a busy server) proves nothing. */
const walls = /^(AccessDenied|InvalidIdentityToken|IDPRejectedClaim)(Exception)?$/

/** Makes one request and says what came of it. Success is a breach unless it is only a step on the way. */
async function ask(service: Answer['service'], asked: string, request: () => Promise<unknown>, success: Answer['verdict'] = 'reached'): Promise<Answer> {
  try {
    await request()
    return { service, asked, verdict: success, status: 200, code: 'OK', message: '' }
  } catch (error) {
    // SDK exceptions carry the status; a TypeError is the browser's, which shows nothing of what was said.
    const { name, message, $metadata } = error as S3ServiceException
    const status = $metadata?.httpStatusCode
    const answer = { service, asked, status, code: name.replace(/Exception$/, ''), message }
    if (status === undefined) return { ...answer, verdict: 'unread' }
    if (name === 'NoSuchKey') return { ...answer, verdict: 'reached' } // it was allowed to look
    return { ...answer, verdict: walls.test(name) ? 'refused' : 'unread' }
  }
}

export async function attempt(name: AttemptName, world: World): Promise<Answer[]> {
  const { config, scope, broker, target } = world
  const s3 = s3Client(config, scope, broker.credentials, 1)
  const Bucket = scope.bucket
  switch (name) {
    case 'read':
      return [await ask('S3', `GetObject ${Bucket}/${target}`, () => s3.send(new GetObjectCommand({ Bucket, Key: target })))]
    case 'list':
      return [await ask('S3', `ListObjectsV2 ${Bucket}/`, () => s3.send(new ListObjectsV2Command({ Bucket })))]
    case 'write': {
      const Key = `${besidePrefix(scope.prefix)}planted.txt`
      return [await ask('S3', `PutObject ${Bucket}/${Key}`, () => s3.send(new PutObjectCommand({ Bucket, Key, Body: 'planted' })))]
    }
    case 'sts':
      return callSTS(world)
  }
}

/**
 * AssumeRoleWithWebIdentity is unsigned: whoever holds a token that STS accepts and knows the role can call it without
 * a session policy. Every session tells its role; so here both are known.
 */
async function callSTS({ config, scope, broker, auth, target }: World): Promise<Answer[]> {
  const sts = new STSClient({ region: config.region, endpoint: config.sts, credentials: broker.credentials, maxAttempts: 1 })
  let role = ''
  const identity = await ask(
    'STS',
    'GetCallerIdentity',
    async () => {
      const { Arn = '' } = await sts.send(new GetCallerIdentityCommand({}))
      role = Arn.replace(':sts:', ':iam:').replace(/:assumed-role\/([^/]+)\/.*$/, ':role/$1')
    },
    'allowed',
  )
  if (!role) return [identity]
  identity.message = role

  const token = await auth.getToken({ fresh: false })
  let whole: Awaited<ReturnType<Broker['credentials']>> | undefined
  const direct = await ask(
    'STS',
    `AssumeRoleWithWebIdentity ${role}`,
    async () => {
      const { Credentials: c } = await sts.send(
        new AssumeRoleWithWebIdentityCommand({ RoleArn: role, RoleSessionName: 'break-in', WebIdentityToken: token }),
      )
      whole = { accessKeyId: c!.AccessKeyId!, secretAccessKey: c!.SecretAccessKey!, sessionToken: c!.SessionToken!, expiration: c!.Expiration! }
    },
    'allowed',
  )
  if (!whole) return [identity, direct]
  // Mode forwarded: STS does take the token. Then the role's own bounds must hold.
  const given = whole
  const s3 = s3Client(config, scope, async () => given, 1)
  const read = await ask('S3', `GetObject ${scope.bucket}/${target}`, () => s3.send(new GetObjectCommand({ Bucket: scope.bucket, Key: target })))
  return [identity, direct, read]
}

/** All buckets of the account: what no tenant may ask, and what a page cannot even ask. */
export async function listBuckets({ config, scope, broker }: World): Promise<Answer> {
  return ask('S3', 'ListBuckets', () => s3Client(config, scope, broker.credentials, 1).send(new ListBucketsCommand({})))
}

/** What became of all steps of an attempt. */
export const outcome = (answers: Answer[]): Answer['verdict'] | undefined => answers.at(-1)?.verdict
