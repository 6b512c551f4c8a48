import { useState } from 'react'
import { listBuckets, type Answer, type World } from '../breakin'
import { useTexts } from '../i18n'
import { AnswerView } from './breakin'

export function Buckets({ world }: { world: Omit<World, 'target'> }) {
  const t = useTexts()
  const [answer, setAnswer] = useState<Answer | 'trying'>()
  const ask = async () => {
    setAnswer('trying')
    setAnswer(await listBuckets({ ...world, target: '' }))
  }
  const told = { unread: t.buckets.unread, refused: t.buckets.refused, reached: t.buckets.reached, allowed: '' }
  return (
    <section className="card" aria-labelledby="buckets">
      <h2 id="buckets">{t.buckets.title}</h2>
      <p className="lead-small">{t.buckets.lead}</p>
      <ol className="points">{t.buckets.points.map((point) => <li key={point}>{point}</li>)}</ol>
      <button type="button" className="button" disabled={answer === 'trying'} onClick={() => void ask()}>
        {answer === 'trying' ? t.buckets.trying : t.buckets.try}
      </button>
      <div className="buckets-answer" aria-live="polite" data-testid="buckets">
        {answer && answer !== 'trying' && (
          <>
            {answer.verdict === 'unread' ? <AnswerView answer={answer} verdict={t.buckets.stopped} /> : <AnswerView answer={answer} />}
            <p className="small">{told[answer.verdict]}</p>
          </>
        )}
      </div>
    </section>
  )
}
