import { lazy, Suspense, useEffect, useState } from 'react'
import type { Auth } from './auth'
import { startBroker, type Broker, type BrokerScope } from './broker'
import { Denied } from './components/denied'
import { Landing } from './components/landing'
import { Shell } from './components/shell'
import type { Config } from './config'
import { useTexts } from './i18n'

/** With the AWS SDK and Uppy: fetched once somebody is signed in. */
const Workspace = lazy(() => import('./components/workspace'))

type State = { scope?: BrokerScope; error?: unknown; leaving?: boolean }

/** Who is signed in decides what is shown; what the broker says decides how much of it. */
export function App({ config, auth }: { config: Config; auth: Auth }) {
  return auth.user ? <SignedIn config={config} auth={auth} /> : <Shell><Landing config={config} auth={auth} /></Shell>
}

function SignedIn({ config, auth }: { config: Config; auth: Auth }) {
  const t = useTexts()
  const [broker, setBroker] = useState<Broker>()
  const [state, setState] = useState<State>({})
  const [round, setRound] = useState(0)

  useEffect(() => {
    const started = startBroker(config, auth)
    setBroker(started)
    return () => started.end()
  }, [config, auth])

  useEffect(() => {
    if (!broker) return
    let current = true
    broker.ready().then(
      (scope) => current && setState({ scope }),
      (error: unknown) => current && setState({ error }),
    )
    return () => {
      current = false
    }
  }, [broker, round])

  const signOut = async () => {
    setState({ leaving: true })
    await broker?.signOut() // while there is a token still
    await auth.signOut()
  }
  const who = auth.user?.name ?? auth.user?.email ?? auth.user?.sub ?? ''
  const shell = { who, onSignOut: () => void signOut() }

  if (state.leaving) return <Shell><p className="loading">{t.signingOut}</p></Shell>
  if (broker && state.scope)
    return (
      <Shell {...shell}>
        <Suspense fallback={<p className="loading">{t.loading}</p>}>
          <Workspace config={config} auth={auth} broker={broker} scope={state.scope} />
        </Suspense>
      </Shell>
    )
  if (state.error !== undefined)
    return (
      <Shell {...shell}>
        <Denied who={who} error={state.error} again={() => setRound(round + 1)} another={() => void auth.signIn({ another: true })} />
      </Shell>
    )
  return <Shell {...shell}><p className="loading">{t.loading}</p></Shell>
}
