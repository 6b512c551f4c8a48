// Where everything is. The same build runs against the local demo and against a real tenant: only /config.json differs.

export interface Config {
  /** The Auth0 tenant, exactly as the tokens' `iss`: "https://acme.eu.auth0.com/". */
  issuer: string
  clientId: string
  audience: string
  /** Sign in to this organization; absent: whichever Auth0 chooses. */
  organization?: string
  broker: string
  /** An S3-compatible server; absent: AWS. */
  s3?: string
  sts: string
  region: string
  /** Only in the demo: who may sign in, and files of several tenants to reach for. */
  demo?: { users: { email: string; tenant: string }[]; files: string[] }
}

export async function loadConfig(): Promise<Config> {
  const response = await fetch('/config.json', { cache: 'no-store' })
  if (!response.ok) throw new Error(`/config.json: ${response.status}`)
  return (await response.json()) as Config
}
