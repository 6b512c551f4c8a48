import type { ReactNode } from 'react'
import { passing } from '../broker'
import type { Texts } from '../i18n'

interface Action {
  label: string
  run: () => void
}

/** Something went wrong: what, what to do about it, and what a developer wants to read. */
export function Problem({ title, help, detail, action }: { title: string; help: string; detail?: string | undefined; action?: Action }) {
  return (
    <div className="notice bad" role="alert">
      <p className="notice-title">{title}</p>
      <p>{help}</p>
      {detail && <p><code>{detail}</code></p>}
      {action && <button type="button" className="button" onClick={action.run}>{action.label}</button>}
    </div>
  )
}

/** Something that passes. */
export function Waiting({ children }: { children: ReactNode }) {
  return <div className="notice warn" role="status">{children}</div>
}

/** What a person can do about an error of S3, of the network or of the broker. */
export function helpFor(error: unknown, t: Texts): string {
  const { name, code, error: oauth } = error as { name?: string; code?: string; error?: string }
  if (name === 'AccessDenied') return t.problems.access
  if (passing(error)) return t.problems.broker
  // Auth0's own: the refresh token is spent, withdrawn or too old.
  if (code === 'signed_out' || code === 'missing_token' || /^(invalid_grant|missing_refresh_token|login_required)$/.test(oauth ?? '')) return t.problems.signedOut
  if (error instanceof TypeError || name === 'TimeoutError') return t.problems.network
  return t.problems.other(code ?? name ?? String(error))
}
