import { useEffect, useState, useSyncExternalStore } from 'react'
import type { Broker } from '../broker'
import { clock, time } from '../format'
import { useTexts } from '../i18n'
import type { Uploader } from '../upload'
import { Waiting } from './notice'

/** The remaining life, counting down, and renewed in time as long as somebody looks or an upload goes on. */
export function Credentials({ broker, uppy }: { broker: Broker; uppy: Uploader | undefined }) {
  const t = useTexts()
  const state = useSyncExternalStore(broker.subscribe, broker.read)
  const [now, setNow] = useState(Date.now)
  const end = state.info?.expiration.getTime() ?? 0
  const life = Math.max(1, end - state.since)
  const left = Math.max(0, end - now)

  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1_000)
    return () => clearInterval(timer)
  }, [])

  useEffect(() => {
    // From half of its life on the helper fetches behind what it gives; it only has to be asked.
    const ask = () => {
      const uploading = Object.keys(uppy?.getState().currentUploads ?? {}).length > 0
      if (document.visibilityState === 'visible' || uploading) broker.credentials().catch(() => {}) // its state says it
    }
    const timer = setInterval(ask, Math.min(15_000, Math.max(1_000, life / 10)))
    return () => clearInterval(timer)
  }, [broker, uppy, life])

  const at = time(new Date(state.since), t.locale)
  return (
    <section className="card" aria-labelledby="credentials">
      <h2 id="credentials">{t.credentials.title}</h2>
      <p className="countdown">
        <span className="digits" data-testid="left">{clock(left)}</span> <span className="muted">{t.credentials.left}</span>
      </p>
      <div className="bar" aria-hidden="true"><div style={{ width: `${(100 * left) / life}%` }} className={left < life / 5 ? 'low' : ''} /></div>
      <p className="small" data-testid="renewals" data-count={state.renewals}>
        {state.renewals ? t.credentials.renewed(state.renewals, at) : t.credentials.first(at)}
      </p>
      {state.trouble ? (
        <Waiting>
          <p>{t.credentials.waiting}</p>
          <p>{t.credentials.waitingHelp}</p>
        </Waiting>
      ) : (
        <>
          <p className="muted small">{left ? t.credentials.renews : t.credentials.ended}</p>
          <p className="muted small">{t.credentials.limits}</p>
        </>
      )}
    </section>
  )
}
