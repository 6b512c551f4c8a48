import { BrokerError } from 'credential-broker-client'
import { useEffect } from 'react'
import { passing } from '../broker'
import { useTexts } from '../i18n'
import { Problem } from './notice'

/** The broker gave nothing: why, in words, and what can be done. */
export function Denied({ who, error, again, another }: { who: string; error: unknown; again: () => void; another: () => void }) {
  const t = useTexts()
  const waits = passing(error)
  useEffect(() => {
    if (!waits) return
    const timer = setTimeout(again, 3_000)
    return () => clearTimeout(timer)
  })
  if (waits)
    return <Problem title={t.denied.unreachable} help={t.denied.unreachableHelp} detail={error.message} action={{ label: t.retry, run: again }} />

  const { code, requestId } = error instanceof BrokerError ? error : { code: String(error), requestId: undefined }
  return (
    <section className="card denied" role="alert">
      <h1>{t.denied.title}</h1>
      <p>{t.denied.intro(who)}</p>
      <p className="strong">{t.denied.reasons[code] ?? t.denied.other}</p>
      <p>{t.denied.todo[code] ?? t.denied.todoOther}</p>
      <dl className="facts">
        <div><dt>{t.denied.code}</dt><dd><code>{code}</code></dd></div>
        {requestId && <div><dt>{t.denied.request}</dt><dd><code>{requestId}</code></dd></div>}
      </dl>
      <p className="actions">
        <button type="button" className="button primary" onClick={another}>{t.signInAnother}</button>
        <button type="button" className="button" onClick={again}>{t.retry}</button>
      </p>
    </section>
  )
}
