import { useSyncExternalStore } from 'react'
import { bytes } from '../format'
import { useTexts } from '../i18n'
import { meter } from '../meter'

/** No request to the broker needs more; a part of a file has 5 MiB. */
const most = 64 * 1024

export function Meter() {
  const t = useTexts()
  const { s3, broker } = useSyncExternalStore(meter.subscribe, meter.read)
  const row = (name: string, id: string, count: typeof s3) => (
    <div className="meter-row">
      <dt>{name}</dt>
      <dd>
        <span className="digits" data-testid={id} data-bytes={count.bytes}>{bytes(count.bytes, t.locale)}</span>
        <span className="muted small block">{t.meter.requests(count.requests)}</span>
      </dd>
    </div>
  )
  return (
    <section className="card" aria-labelledby="meter">
      <h2 id="meter">{t.meter.title}</h2>
      <dl className="meter">
        {row(t.meter.s3, 'bytes-s3', s3)}
        {row(t.meter.broker, 'bytes-broker', broker)}
      </dl>
      <p className={broker.largest > most ? 'small bad-text' : 'small ok-text'}>
        {broker.largest > most ? t.meter.some(bytes(broker.largest, t.locale)) : t.meter.none}
      </p>
      <p className="muted small">{t.meter.note}</p>
    </section>
  )
}
