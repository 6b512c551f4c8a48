import '@uppy/core/css/style.min.css'
import '@uppy/dashboard/css/style.min.css'
import '../styles/uppy.css'
import { useCallback, useEffect, useMemo, useRef, useState } from 'react'
import type { Auth } from '../auth'
import type { Broker, BrokerScope } from '../broker'
import type { Config } from '../config'
import { useTexts } from '../i18n'
import { s3Client } from '../s3'
import { startUploads, type Uploader } from '../upload'
import { BreakIn } from './breakin'
import { Buckets } from './buckets'
import { Credentials } from './credentials'
import { Files } from './files'
import { Meter } from './meter'
import { Upload } from './upload'
import { Who } from './who'

/** Everything that somebody with credentials sees. */
export default function Workspace({ config, auth, broker, scope }: { config: Config; auth: Auth; broker: Broker; scope: BrokerScope }) {
  const t = useTexts()
  const s3 = useMemo(() => s3Client(config, scope, broker.credentials), [config, scope, broker])
  const [folder, setFolder] = useState('')
  const here = useRef('')
  here.current = folder
  const [uppy, setUppy] = useState<Uploader>()
  const [version, setVersion] = useState(0)
  const [said, setSaid] = useState('')
  const changed = useCallback(() => setVersion((n) => n + 1), [])

  useEffect(() => {
    const uploads = startUploads(config, scope, broker, () => here.current)
    uploads.on('upload-success', (file) => {
      changed()
      if (file) setSaid(t.upload.uploaded(file.name))
    })
    setUppy(uploads)
    return () => {
      setUppy(undefined)
      uploads.destroy()
    }
    // The texts may change under way; the uploads must not end with that.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [config, scope, broker, changed])

  const may = (what: BrokerScope['access'][number]) => scope.access.includes(what)
  const world = { config, scope, broker, auth }
  return (
    <>
      <p className="hidden" aria-live="polite">{said}</p>
      <h1 className="hidden">{t.title}</h1>
      <Who user={auth.user!} scope={scope} />
      <div className="columns">
        <div className="column">
          {may('write') && uppy && <Upload uppy={uppy} s3={s3} scope={scope} folder={folder} onChange={changed} />}
          {may('list') && <Files s3={s3} scope={scope} folder={folder} onFolder={setFolder} version={version} say={setSaid} />}
        </div>
        <div className="column aside">
          <Credentials broker={broker} uppy={uppy} />
          <Meter />
        </div>
      </div>
      <BreakIn world={world} />
      <Buckets world={world} />
    </>
  )
}
