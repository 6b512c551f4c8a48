import type { S3Client } from '@aws-sdk/client-s3'
import { useEffect, useRef, useState } from 'react'
import type { BrokerScope } from '../broker'
import { bytes, percent } from '../format'
import { useLanguage } from '../i18n'
import { uppyLocale } from '../i18n/uppy'
import { uploadSample } from '../s3'
import { useTheme } from '../theme'
import { mountDashboard, type Uploader } from '../upload'
import { helpFor, Problem } from './notice'

interface Props {
  uppy: Uploader
  s3: S3Client
  scope: BrokerScope
  folder: string
  onChange: () => void
}

/** How long finished files stay in sight before the place to drop is clear again. */
const linger = 4_000

export function Upload({ uppy, s3, scope, folder, onChange }: Props) {
  const { t, language } = useLanguage()
  const { shown } = useTheme()
  const target = useRef<HTMLDivElement>(null)

  useEffect(() => mountDashboard(uppy, target.current!), [uppy])
  useEffect(() => uppy.setOptions({ locale: uppyLocale(language) }), [uppy, language])
  useEffect(() => {
    uppy.getPlugin('Dashboard')?.setOptions({ theme: shown })
  }, [uppy, shown])

  useEffect(() => {
    const clear = () => {
      const files = uppy.getFiles()
      if (files.length && files.every((f) => f.progress.uploadComplete)) uppy.clear()
    }
    const complete = () => void setTimeout(clear, linger)
    uppy.on('complete', complete)
    return () => void uppy.off('complete', complete)
  }, [uppy])

  return (
    <section className="card" aria-labelledby="upload">
      <h2 id="upload">{t.upload.title}</h2>
      <p className="muted small">
        {t.upload.to} <code>{scope.prefix}{folder}</code>. {t.upload.note}
      </p>
      <div ref={target} className="dashboard" />
      <Sample s3={s3} scope={scope} folder={folder} onChange={onChange} />
    </section>
  )
}

const sampleSize = 12 // megabytes

function Sample({ s3, scope, folder, onChange }: Omit<Props, 'uppy'>) {
  const { t } = useLanguage()
  const [share, setShare] = useState<number>()
  const [error, setError] = useState<unknown>()
  const stop = useRef(new AbortController())

  const send = async () => {
    stop.current = new AbortController()
    setShare(0)
    setError(undefined)
    try {
      await uploadSample(s3, scope.bucket, scope.prefix + folder + t.upload.sampleName, sampleSize, setShare, stop.current.signal)
      onChange()
    } catch (failure) {
      if (!stop.current.signal.aborted) setError(failure)
    } finally {
      setShare(undefined)
    }
  }
  return (
    <div className="sample">
      <p className="small">
        <span className="strong">{t.upload.sample}</span> <span className="muted">{t.upload.sampleHelp}</span>
      </p>
      {share === undefined ? (
        <button type="button" className="button" onClick={() => void send()}>{t.upload.sampleButton(bytes(sampleSize * 1e6, t.locale))}</button>
      ) : (
        <span className="sample-progress">
          <progress value={share} max={1} aria-label={t.upload.sampleName} />
          <span className="digits small">{percent(share, t.locale)}</span>
          <button type="button" className="button" onClick={() => stop.current.abort()}>{t.upload.sampleCancel}</button>
        </span>
      )}
      {error !== undefined && <Problem title={t.upload.failed(t.upload.sampleName)} help={helpFor(error, t)} />}
    </div>
  )
}
