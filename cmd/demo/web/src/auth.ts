// Sign-in with Auth0: authorization code with PKCE, tokens in memory only, refresh tokens that rotate and live in a
// worker that no other script of the page can read.
import { Auth0Client, type User } from '@auth0/auth0-spa-js'
import workerUrl from '@auth0/auth0-spa-js/dist/auth0-spa-js.worker.production.js?url'
import type { Config } from './config'

/** Says only that somebody was signed in, so that a reload may try without asking. It is no token. */
const mark = 'signed-in'

export interface Auth {
  user: User | undefined
  /** Why the last sign-in came to nothing. */
  failure: string | undefined
  signIn(options?: { another?: boolean }): Promise<void>
  signOut(): Promise<void>
  getToken(request: { fresh: boolean }): Promise<string>
}

export async function startAuth(config: Config): Promise<Auth> {
  const origin = window.location.origin
  const client = new Auth0Client({
    domain: config.issuer.replace(/\/$/, ''),
    clientId: config.clientId,
    cacheLocation: 'memory',
    useRefreshTokens: true,
    useRefreshTokensFallback: false, // no hidden frame: the page's policy has no frame-src
    workerUrl,
    authorizationParams: {
      redirect_uri: `${origin}/`,
      audience: config.audience,
      scope: 'openid profile email offline_access',
      ...(config.organization ? { organization: config.organization } : {}),
    },
  })

  let failure: string | undefined
  const here = new URLSearchParams(window.location.search)
  if (here.has('state') && (here.has('code') || here.has('error'))) {
    try {
      await client.handleRedirectCallback()
      sessionStorage.setItem(mark, '1')
    } catch (error) {
      sessionStorage.removeItem(mark)
      // Nobody was there to be signed in again without asking: that is no failure.
      if (here.get('error') !== 'login_required') failure = error instanceof Error ? error.message : String(error)
    }
    window.history.replaceState(null, '', '/') // the code is spent; it need not stay in sight
  } else if (sessionStorage.getItem(mark)) {
    sessionStorage.removeItem(mark)
    await client.loginWithRedirect({ authorizationParams: { prompt: 'none' } })
    await new Promise(() => {}) // the browser is on its way
  }

  return {
    user: await client.getUser(),
    failure,
    signIn: ({ another = false } = {}) => client.loginWithRedirect({ authorizationParams: another ? { prompt: 'login' } : {} }),
    signOut: async () => {
      sessionStorage.removeItem(mark)
      await client.logout({ logoutParams: { returnTo: `${origin}/` } })
    },
    getToken: async ({ fresh }) => (await client.getTokenSilently({ cacheMode: fresh ? 'off' : 'on' })) ?? '',
  }
}
