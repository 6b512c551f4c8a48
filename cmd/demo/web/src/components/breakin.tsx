import { useState } from 'react'
import { attempt, attemptNames, likelyTarget, outcome, type Answer, type AttemptName, type World } from '../breakin'
import { useTexts } from '../i18n'
import { HoleIcon, ShieldIcon } from './icons'

type Results = Partial<Record<AttemptName, Answer[] | 'trying'>>

export function BreakIn({ world }: { world: Omit<World, 'target'> }) {
  const t = useTexts()
  const [target, setTarget] = useState(() => likelyTarget(world.config, world.scope))
  const [results, setResults] = useState<Results>({})

  const tryOne = async (name: AttemptName) => {
    setResults((old) => ({ ...old, [name]: 'trying' }))
    const answers = await attempt(name, { ...world, target })
    setResults((old) => ({ ...old, [name]: answers }))
  }
  const tryAll = async () => {
    for (const name of attemptNames) await tryOne(name)
  }
  const busy = Object.values(results).includes('trying')
  return (
    <section className="card" aria-labelledby="breakin">
      <div className="card-head">
        <h2 id="breakin">{t.breakin.title}</h2>
        <button type="button" className="button primary" disabled={busy} onClick={() => void tryAll()}>{t.breakin.all}</button>
      </div>
      <p className="lead-small">{t.breakin.lead}</p>
      <label className="field">
        <span>{t.breakin.target}</span>
        <input value={target} spellCheck={false} onChange={(e) => setTarget(e.target.value)} />
      </label>
      <ul className="attempts">
        {attemptNames.map((name) => (
          <Attempt key={name} name={name} prefix={world.scope.prefix} result={results[name]} disabled={busy || (name === 'read' && !target)} onTry={() => void tryOne(name)} />
        ))}
      </ul>
    </section>
  )
}

interface AttemptProps {
  name: AttemptName
  prefix: string
  result: Results[AttemptName]
  disabled: boolean
  onTry: () => void
}

function Attempt({ name, prefix, result, disabled, onTry }: AttemptProps) {
  const t = useTexts()
  const { title, text } = t.breakin.attempts[name]
  const answers = Array.isArray(result) ? result : []
  const verdict = outcome(answers)
  return (
    <li className={`attempt ${verdict ?? ''}`} data-testid={`attempt-${name}`} data-verdict={verdict}>
      <h3>{title}</h3>
      <p className="muted small">{text}</p>
      <button type="button" className="button" disabled={disabled} aria-label={`${result ? t.breakin.again : t.breakin.try}: ${title}`} onClick={onTry}>
        {result === 'trying' ? t.breakin.trying : result ? t.breakin.again : t.breakin.try}
      </button>
      <div aria-live="polite">
        {answers.map((answer) => <AnswerView key={answer.asked} answer={answer} />)}
        {verdict === 'refused' && <p className="small">{name === 'sts' && answers.length > 2 ? t.breakin.why.stsForwarded : t.breakin.why[name](prefix)}</p>}
        {verdict === 'unread' && <p className="small">{t.breakin.unread}</p>}
      </div>
    </li>
  )
}

export function AnswerView({ answer, verdict }: { answer: Answer; verdict?: string }) {
  const t = useTexts()
  return (
    <div className={`answer ${answer.verdict}`}>
      <p className="verdict">
        {answer.verdict === 'reached' ? <HoleIcon /> : answer.verdict === 'refused' ? <ShieldIcon /> : null}
        {verdict ?? (answer.verdict === 'refused' ? t.breakin.refused(answer.service) : t.breakin.verdicts[answer.verdict])}
      </p>
      <pre tabIndex={0} role="group" aria-label={answer.asked}>{`${answer.asked}\n→ ${[answer.status, answer.code].filter(Boolean).join(' ')}${answer.message && answer.message !== answer.code ? `\n  ${answer.message}` : ''}`}</pre>
    </div>
  )
}
