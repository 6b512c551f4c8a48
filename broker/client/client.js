// @ts-check
// Credentials from a credential-broker, for the AWS SDK for JavaScript v3, Uppy and Amplify: see README.md.
// SPDX-License-Identifier: Apache-2.0

/** @typedef {import('./client.d.ts').BrokerCredentialsOptions} Options */
/** @typedef {import('./client.d.ts').BrokerCredentials} BrokerCredentials */
/** @typedef {import('./client.d.ts').BrokerScope} Scope */
/** @typedef {import('./client.d.ts').AwsCredentials} Keys */
/** @typedef {{keys: Keys, scope: Scope, info: import('./client.d.ts').CredentialsInfo, until: number, half: number}} Answer */

// Numbers, each with its reason; times in milliseconds.

/** Of life that a request needs to reach S3. The broker hands nothing out with less than 5 minutes left. */
const floor = 60_000
/** For one request: the broker gives up on AWS after 1.8 s, the rest is for a slow line. */
const patience = 10_000
/** After the first request no other begins later: somebody looks at the page. The broker's usual Retry-After is 5 s. */
const total = 30_000
/** Requests, with pauses of up to 0.5, 1 and 2 s between them: by then a broker that restarts is back. */
const attempts = 4
const backoff = 500
/** Until a refresh behind good credentials is tried again: nobody waits for it. */
const pause = 30_000
/** For the broker's part of a sign-out: it forgets by itself, only later. */
const farewell = 5_000

export class BrokerError extends Error {
  name = 'BrokerError'
  /** @type {number | undefined} */
  status
  /** @type {string | undefined} */
  requestId
  /** @type {number | undefined} */
  retryAfter

  /** @param {string} code @param {string} message @param {{}} [details] */
  constructor(code, message, details) {
    super(`${code}: ${message}`)
    this.code = code
    Object.assign(this, details)
  }
}

/**
 * Ends as work does; or after ms, with late if it is given; or when end says so. What the page hands in may hang and
 * heed no signal.
 * @template T
 * @param {AbortSignal | undefined} end
 * @param {number | undefined} ms
 * @param {Error} [late]
 * @param {(signal: AbortSignal) => Promise<T>} [work]
 * @returns {Promise<T>}
 */
const within = (end, ms, late, work) =>
  new Promise((resolve, reject) => {
    const own = new AbortController()
    /** @type {(how: (value: any) => void) => (value?: any) => void} */
    const by = (how) => (value) => {
      clearTimeout(timer)
      how(value)
      own.abort()
    }
    const stop = () => by(reject)(end?.reason)
    const timer = ms === undefined ? ms : setTimeout(by(late ? reject : resolve), ms, late)
    if (end?.aborted) return stop()
    end?.addEventListener('abort', stop, own)
    work?.(own.signal).then(by(resolve), by(reject))
  })

/** @param {Options} options @returns {BrokerCredentials} */
export function brokerCredentials({ url, getToken, fetch: send, signal, onCredentials, ...asked }) {
  const base = new URL(url, globalThis.location?.href)
  if (base.protocol !== 'https:' && !/^(localhost|127(\.\d+){3}|\[::1])$/.test(base.hostname)) throw new TypeError('url: not https')
  const query = new URLSearchParams({ format: 'js' })
  for (const [name, value] of Object.entries(asked)) {
    // A misspelt "acces" would give more than was asked for, and a "token" would stand in the address.
    if (!/^(grant|access|path|tenant|duration)$/.test(name)) throw new TypeError(`${name}: unknown`)
    if (value !== undefined) query.set(name, `${value}`)
  }
  const address = `${base.origin}${base.pathname.replace(/\/+$/, '')}/v1/credentials`

  /** What a sign-out ends. */
  let session = new AbortController()
  /** @type {Answer | undefined} */
  let held
  /** @type {Promise<Answer> | undefined} */
  let flight

  /** @param {unknown} reason */
  const forget = (reason) => {
    held = flight = undefined
    const ended = session
    session = new AbortController()
    ended.abort(reason)
  }
  signal?.addEventListener('abort', () => forget(signal.reason))

  /** @param {boolean} fresh */
  const tokenOf = async (fresh) => {
    const token = await getToken({ fresh })
    // What is no header's value would be told in fetch's error.
    if (!/^[!-~]+$/.test(token ?? '')) throw new BrokerError('missing_token', 'getToken gave none')
    return token
  }

  /** @param {string} token @param {AbortSignal} signal @param {'GET' | 'DELETE'} method @returns {Promise<Answer>} */
  const request = async (token, signal, method) => {
    let response, body
    try {
      response = await (send ?? fetch)(method === 'GET' ? `${address}?${query}` : address, {
        method,
        signal,
        headers: { authorization: `Bearer ${token}` },
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error', // the token goes nowhere else
      })
      body = await response.json()
    } catch {
      // The cause stays here: a fetch of the page's own may tell the request's headers in it.
      if (!response || response.ok) throw new BrokerError('network', 'no answer')
    }
    const { status, headers } = response
    const now = Date.now()
    const later = headers.get('retry-after') ?? '' // seconds, or a date by the server's clock
    const after = /^\d+$/.test(later) ? +later : (Date.parse(later) - now - (held?.info.clockOffset ?? 0)) / 1000
    const details = { status, requestId: headers.get('x-request-id') ?? undefined, retryAfter: after >= 0 ? after : undefined }
    if (!response.ok) throw new BrokerError(body?.Code ?? 'bad_answer', `${body?.Message ?? status}`.replaceAll(token, '***'), details)

    const { credentials: given, serverTime, ...scope } = body ?? {}
    const keys = given ?? {}
    // Life by the server's clock alone, and from here on by ours: how far apart the two are plays no part.
    const server = Date.parse(serverTime)
    const life = Date.parse(keys.expiration) - server
    if (!(life > 0 && keys.accessKeyId && keys.secretAccessKey && keys.sessionToken && scope.bucket && scope.region && scope.prefix))
      throw new BrokerError('bad_answer', 'expired or not whole', details)
    const until = now + life
    keys.expiration = new Date(until)
    return {
      keys,
      scope,
      info: { ...scope, expiration: keys.expiration, clockOffset: server - now },
      until,
      half: now + life * (0.45 + Math.random() / 10), // ± 10 %, so that tabs do not come together
    }
  }

  /** @param {AbortSignal} end */
  const obtain = async (end) => {
    let began = 0
    /** @type {boolean | undefined} */
    let fresh
    for (let attempt = 0; ; ) {
      try {
        const token = await within(end, undefined, undefined, () => tokenOf(!!fresh)) // as long as it takes to sign in
        began ||= Date.now()
        return await within(end, patience, new BrokerError('network', 'no answer'), (signal) => request(token, signal, 'GET'))
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error // getToken's
        const { code, status = 0, retryAfter = 0 } = error
        // Once, a token that the page keeps may have gone bad before its time.
        if (fresh === undefined && /^(expired|invalid)_token$/.test(code)) {
          fresh = true
          continue
        }
        fresh &&= false
        const wait = retryAfter * 1000 + Math.random() * backoff * 2 ** attempt
        const passing = code === 'network' || status === 429 || (status >= 500 && code !== 'sts_rejected')
        if (!passing || ++attempt === attempts || Date.now() + wait > began + total) throw error
        await within(end, wait)
      }
    }
  }

  /** One flight at a time: whoever comes meanwhile shares it. Nothing is left of one that failed. */
  const refresh = () => {
    const { signal: end } = session
    const mine = (flight ??= obtain(end)
      .then((answer) => {
        end.throwIfAborted()
        held = answer
        queueMicrotask(() => onCredentials?.({ ...answer.info })) // what it throws is the page's, not the flight's
        return answer
      })
      .finally(() => {
        if (flight === mine) flight = undefined
      }))
    return mine
  }

  /** What is there; from half of its life on, a new one is fetched behind it. */
  const present = () => {
    const kept = held
    if (kept && Date.now() >= kept.half)
      refresh().catch(({ retryAfter = 0 }) => {
        kept.half = Date.now() + Math.max(pause, retryAfter * 1000)
      })
    return kept
  }

  /** @template T @param {(answer: Answer) => T} shape */
  const giver =
    (shape) =>
    /** @param {{forceRefresh?: boolean}} [options] */
    async (options) => {
      signal?.throwIfAborted()
      const { signal: end } = session
      const kept = options?.forceRefresh ? undefined : present()
      const answer = kept && Date.now() < kept.until - floor ? kept : await refresh()
      end.throwIfAborted()
      return shape(answer)
    }

  const signOut = async () => {
    forget(signedOut())
    // Best effort: without a token or a broker there is nothing more to do.
    await within(undefined, farewell, undefined, async (signal) => request(await tokenOf(false), signal, 'DELETE')).catch(() => {})
  }
  const signedOut = () => new BrokerError('signed_out', 'signed out')

  const credentials = giver(({ keys }) => ({ ...keys }))
  const wrapped = giver(({ keys }) => ({ credentials: { ...keys } }))
  Object.assign(credentials, {
    ready: giver(({ scope }) => ({ ...scope })),
    uppy: () =>
      giver(({ scope }) => ({
        ...scope,
        // Uppy keeps an answer for ever, and reads this for each request: it finds what is there then.
        get credentials() {
          const { keys } = present() ?? {}
          if (!keys) throw signedOut()
          return { ...keys, expiration: keys.expiration.toISOString() }
        },
      })),
    amplify: () => ({ getCredentialsAndIdentityId: wrapped, clearCredentialsAndIdentityId: signOut, locationCredentialsProvider: wrapped }),
    signOut,
  })
  for (const name of /** @type {const} */ (['bucket', 'region', 'prefix', 'access', 'grant', 'expiration', 'clockOffset']))
    Object.defineProperty(credentials, name, { get: () => held?.info[name] })
  return /** @type {BrokerCredentials} */ (credentials)
}
