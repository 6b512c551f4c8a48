// The broker's credentials for this page, and patience with it: what passes (a restart, a busy AWS, a lost line) is
// waited for, and the page says so meanwhile.
import { brokerCredentials, BrokerError, type BrokerScope, type CredentialsInfo, type UppyCredentials } from 'credential-broker-client'
import type { Auth } from './auth'
import type { Config } from './config'

export type { BrokerScope } from 'credential-broker-client'

export interface BrokerState {
  info: CredentialsInfo | undefined
  /** When the present credentials came, by this machine's clock, and how many came before. */
  since: number
  renewals: number
  /** Set while the broker is being waited for. */
  trouble: BrokerError | undefined
}

/** How long to go on asking: an upload of hours is worth more than ten minutes of waiting. */
const patience = 10 * 60_000
/** Between two rounds of asking; the helper has waited in between its own attempts already. */
const pause = 1_000

export const passing = (error: unknown): error is BrokerError =>
  error instanceof BrokerError && (error.code === 'network' || error.status === 429 || ((error.status ?? 0) >= 500 && error.code !== 'sts_rejected'))

export function startBroker(config: Config, auth: Auth) {
  let state: BrokerState = { info: undefined, since: 0, renewals: 0, trouble: undefined }
  const listeners = new Set<() => void>()
  const set = (change: Partial<BrokerState>) => {
    state = { ...state, ...change }
    for (const listener of listeners) listener()
  }
  const end = new AbortController()
  const credentials = brokerCredentials({
    url: config.broker,
    getToken: auth.getToken,
    signal: end.signal,
    onCredentials: (info) => {
      const same = state.info && Math.abs(info.expiration.getTime() - state.info.expiration.getTime()) < 2_000
      if (same) return
      set({ info, since: Date.now(), renewals: state.info ? state.renewals + 1 : 0 })
    },
  })

  /** Asks until there is an answer that will not pass by waiting. */
  async function patiently<T>(ask: () => Promise<T>): Promise<T> {
    const began = Date.now()
    for (;;) {
      try {
        const answer = await ask()
        if (state.trouble) set({ trouble: undefined })
        return answer
      } catch (error) {
        if (!passing(error) || Date.now() - began > patience) throw error
        set({ trouble: error })
        await new Promise((resolve) => setTimeout(resolve, Math.max(pause, (error.retryAfter ?? 0) * 1000)))
      }
    }
  }

  const uppy = credentials.uppy()
  return {
    subscribe(listener: () => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
    read: () => state,
    /** For the AWS SDK. */
    credentials: (options?: { forceRefresh?: boolean }) => patiently(() => credentials(options)),
    /** For Uppy, which asks again only when S3 has said that a session is over. */
    uppy: (options?: { signal?: AbortSignal }): Promise<UppyCredentials> => patiently(() => uppy(options)),
    /** Not patient: the page's first question, whose answer it shows. */
    ready: (): Promise<BrokerScope> => credentials.ready(),
    signOut: () => credentials.signOut(),
    end: () => end.abort(),
  }
}

export type Broker = ReturnType<typeof startBroker>
