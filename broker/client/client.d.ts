/** What a caller may do below the prefix. */
export type Access = 'list' | 'read' | 'write' | 'delete'

/** What the credentials are good for, as the broker gave it: it may be less than was asked for. */
export interface BrokerScope {
  bucket: string
  region: string
  /** Ends in "/", unless `path` named one object: then it is that object's key. */
  prefix: string
  access: readonly Access[]
  /** The name of the grant, in the broker's configuration. */
  grant: string
}

/** As the AWS SDK for JavaScript v3 takes them. */
export interface AwsCredentials {
  accessKeyId: string
  secretAccessKey: string
  sessionToken: string
  /** By this machine's clock, however wrong that is. */
  expiration: Date
}

/** What a page may show: no secret. */
export interface CredentialsInfo extends BrokerScope {
  /** By this machine's clock. */
  expiration: Date
  /** What has to be added to this machine's clock to get the broker's, in milliseconds. */
  clockOffset: number
}

export interface BrokerCredentialsOptions {
  /** Where the broker is: "https://broker.example", with a path if it stands below one. https, or http on loopback. */
  url: string
  /**
   * Gives the Auth0 access token; asked before each request to the broker. `fresh` is true after the broker has refused
   * the last one as expired or invalid: then get a new one from Auth0, past every cache.
   */
  getToken: (request: { fresh: boolean }) => Promise<string> | string
  /** A grant by name; without it the first that the token matches. */
  grant?: string | undefined
  /** Less than the grant gives. */
  access?: readonly Access[] | string | undefined
  /** Below the grant's prefix: a folder, which ends in "/", or one object. */
  path?: string | undefined
  /** Only for grants that let the request name the tenant. */
  tenant?: string | undefined
  /** Seconds, or a text such as "20m". */
  duration?: number | string | undefined
  /** Instead of the global fetch. */
  fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined
  /** Once it is aborted, all is forgotten and every call fails with its reason. */
  signal?: AbortSignal | undefined
  /** Called each time that new credentials are here. */
  onCredentials?: ((info: CredentialsInfo) => void) | undefined
}

/** As `getCredentials` of @uppy/aws-s3 6 takes it, and the scope. */
export interface UppyCredentials extends BrokerScope {
  /** Each time it is read: the present ones, so that Uppy, which keeps this object for ever, signs with no old ones. */
  readonly credentials: { accessKeyId: string; secretAccessKey: string; sessionToken: string; expiration: string }
}

/** For Amplify v6: the object as `credentialsProvider` of Auth, its last member as that of a storage location. */
export interface AmplifyCredentials {
  getCredentialsAndIdentityId(options?: { forceRefresh?: boolean | undefined }): Promise<{ credentials: AwsCredentials }>
  /** Is signOut. */
  clearCredentialsAndIdentityId(): Promise<void>
  locationCredentialsProvider(options?: { forceRefresh?: boolean | undefined }): Promise<{ credentials: AwsCredentials }>
}

/**
 * A credential provider of the AWS SDK for JavaScript v3. It rejects with a BrokerError, or with what getToken threw.
 * The properties are undefined until there are credentials, and again after signOut.
 */
export interface BrokerCredentials {
  /** `forceRefresh` asks the broker again, which may have the same credentials for us. */
  (options?: { forceRefresh?: boolean | undefined }): Promise<AwsCredentials>
  readonly bucket: string | undefined
  readonly region: string | undefined
  readonly prefix: string | undefined
  readonly access: readonly Access[] | undefined
  readonly grant: string | undefined
  readonly expiration: Date | undefined
  /** For the SDK's `systemClockOffset`. */
  readonly clockOffset: number | undefined
  /** Gets credentials if there are none, and tells what they are good for. */
  ready(): Promise<BrokerScope>
  uppy(): (options?: { signal?: AbortSignal | undefined }) => Promise<UppyCredentials>
  amplify(): AmplifyCredentials
  /**
   * Forgets, ends what is under way with the code `signed_out`, and tells the broker to forget, with a last token: so
   * call it before Auth0's own logout. It never rejects, and takes 5 seconds at most.
   */
  signOut(): Promise<void>
}

export function brokerCredentials(options: BrokerCredentialsOptions): BrokerCredentials

export class BrokerError extends Error {
  constructor(code: string, message: string, details?: { status?: number; requestId?: string | undefined; retryAfter?: number | undefined })
  /**
   * The broker's Code (`no_grant`, `rate_limited` …), or
   * `network`: no answer, or one that broke off;
   * `bad_answer`: not the broker's, or expired on arrival;
   * `missing_token`: getToken gave none, nobody was asked;
   * `signed_out`.
   */
  readonly code: string
  /** Of the answer, if there was one. */
  readonly status: number | undefined
  /** By which the operator finds it. */
  readonly requestId: string | undefined
  /** Seconds until it is worth trying again, if the broker said so. */
  readonly retryAfter: number | undefined
}
