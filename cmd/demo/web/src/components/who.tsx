import type { User } from '@auth0/auth0-spa-js'
import type { BrokerScope } from '../broker'
import { useTexts } from '../i18n'

export function Who({ user, scope }: { user: User; scope: BrokerScope }) {
  const t = useTexts()
  const facts: [string, string][] = [
    [t.who.tenant, String((user.org_id as string | undefined) ?? '–')],
    [t.who.bucket, scope.bucket],
    [t.who.prefix, scope.prefix],
    [t.who.region, scope.region],
    [t.who.grant, scope.grant],
  ]
  return (
    <section className="card who" aria-labelledby="who">
      <h2 id="who" className="hidden">{t.who.title}</h2>
      <p className="person">
        <span className="avatar" aria-hidden="true">{(user.name ?? user.email ?? '?').slice(0, 1)}</span>
        <span>
          <span className="strong">{user.name ?? user.sub}</span>
          <span className="muted block">{user.email}</span>
        </span>
      </p>
      <dl className="facts">
        {facts.map(([name, value]) => (
          <div key={name}><dt>{name}</dt><dd><code>{value}</code></dd></div>
        ))}
        <div>
          <dt>{t.who.access}</dt>
          <dd className="tags">{scope.access.map((a) => <span key={a} className="tag">{t.who.accesses[a]}</span>)}</dd>
        </div>
      </dl>
    </section>
  )
}
