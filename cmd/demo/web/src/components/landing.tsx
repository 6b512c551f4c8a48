import { useState } from 'react'
import type { Auth } from '../auth'
import type { Config } from '../config'
import { useTexts } from '../i18n'
import { Problem } from './notice'

/** Nobody is signed in: what this is, in three steps, and one button. */
export function Landing({ config, auth }: { config: Config; auth: Auth }) {
  const t = useTexts()
  const [leaving, setLeaving] = useState(false)
  const signIn = (another: boolean) => {
    setLeaving(true)
    auth.signIn({ another }).catch(() => setLeaving(false))
  }
  return (
    <div className="landing">
      {auth.failure && <Problem title={t.landing.failed} help={t.landing.failedHelp} detail={auth.failure} />}
      <section className="hero">
        <h1>{t.landing.headline}</h1>
        <p className="lead">{t.landing.lead}</p>
        <p className="actions">
          <button type="button" className="button primary large" disabled={leaving} onClick={() => signIn(false)}>{t.signIn}</button>
          {auth.failure && <button type="button" className="button large" disabled={leaving} onClick={() => signIn(true)}>{t.signInAnother}</button>}
        </p>
      </section>
      <ol className="steps">
        {t.landing.steps.map((step) => (
          <li key={step.title}>
            <h2>{step.title}</h2>
            <p>{step.text}</p>
          </li>
        ))}
      </ol>
      {config.demo && (
        <section className="card">
          <h2>{t.landing.users}</h2>
          <p className="muted">{t.landing.usersNote}</p>
          <ul className="people">
            {config.demo.users.map(({ email, tenant }) => (
              <li key={email}>
                <span>{email}</span>
                <span className="tag">{tenant || t.landing.nobody}</span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </div>
  )
}
