import type { S3Client } from '@aws-sdk/client-s3'
import { useCallback, useEffect, useRef, useState } from 'react'
import type { BrokerScope } from '../broker'
import { bytes, date, percent } from '../format'
import { useTexts } from '../i18n'
import { download, list, remove, safeName, type File, type Listing } from '../s3'
import { FolderIcon, FileIcon } from './icons'
import { helpFor, Problem } from './notice'

interface Props {
  s3: S3Client
  scope: BrokerScope
  folder: string
  onFolder: (folder: string) => void
  /** Changes when something was uploaded. */
  version: number
  say: (text: string) => void
}

export function Files({ s3, scope, folder, onFolder, version, say }: Props) {
  const t = useTexts()
  const [listing, setListing] = useState<Listing>()
  const [problem, setProblem] = useState<{ title: string; error: unknown }>()
  const [round, setRound] = useState(0)
  const [doomed, setDoomed] = useState<File>()
  const prefix = scope.prefix + folder

  useEffect(() => {
    let current = true
    list(s3, scope.bucket, prefix).then(
      (page) => {
        if (!current) return
        setListing(page)
        setProblem(undefined)
      },
      (error: unknown) => current && setProblem({ title: t.files.failed, error }),
    )
    return () => {
      current = false
    }
  }, [s3, scope.bucket, prefix, version, round, t])

  const open = (next: string) => {
    setListing(undefined)
    onFolder(next)
  }
  const more = async () => {
    try {
      const page = await list(s3, scope.bucket, prefix, listing?.next)
      setListing((old) => old && { folders: [...old.folders, ...page.folders], files: [...old.files, ...page.files], next: page.next })
    } catch (error) {
      setProblem({ title: t.files.failed, error })
    }
  }
  const destroy = async (file: File) => {
    setDoomed(undefined)
    try {
      await remove(s3, scope.bucket, file.key)
      say(t.files.removed(file.name))
      setRound(round + 1)
    } catch (error) {
      setProblem({ title: t.files.failedRemove(file.name), error })
    }
  }
  const empty = listing && !listing.files.length && !listing.folders.length
  return (
    <section className="card" aria-labelledby="files">
      <div className="card-head">
        <h2 id="files">{t.files.title}</h2>
        <span className="muted small">{listing && !listing.next ? t.files.count(listing.files.length) : ''}</span>
        <NewFolder onCreate={(name) => open(`${folder}${safeName(name)}/`)} />
        <button type="button" className="button" onClick={() => setRound(round + 1)}>{t.files.refresh}</button>
      </div>
      <Path folder={folder} onFolder={open} />
      {problem && <Problem title={problem.title} help={helpFor(problem.error, t)} action={{ label: t.retry, run: () => setRound(round + 1) }} />}
      {!listing && !problem && <p className="loading">{t.loading}</p>}
      {empty && (
        <div className="empty">
          <FolderIcon />
          <p className="strong">{t.files.empty}</p>
          <p className="muted">{t.files.emptyHelp}</p>
        </div>
      )}
      {listing && !empty && (
        <table className="files">
          <thead>
            <tr>
              <th scope="col">{t.files.name}</th>
              <th scope="col" className="number">{t.files.size}</th>
              <th scope="col" className="when">{t.files.modified}</th>
              <th scope="col"><span className="hidden">{t.files.actions}</span></th>
            </tr>
          </thead>
          <tbody>
            {listing.folders.map((f) => (
              <tr key={f.prefix}>
                <td className="name">
                  <button type="button" className="link" onClick={() => open(f.prefix.slice(scope.prefix.length))}><FolderIcon />{f.name}</button>
                </td>
                <td className="number muted">–</td>
                <td className="when muted">{t.files.folder}</td>
                <td />
              </tr>
            ))}
            {listing.files.map((f) => (
              <Row key={f.key} file={f} s3={s3} scope={scope} onRemove={setDoomed} onProblem={setProblem} />
            ))}
          </tbody>
        </table>
      )}
      {listing?.next && <button type="button" className="button" onClick={() => void more()}>{t.files.more}</button>}
      {doomed && <Confirm file={doomed} onYes={() => void destroy(doomed)} onNo={() => setDoomed(undefined)} />}
    </section>
  )
}

function Path({ folder, onFolder }: { folder: string; onFolder: (folder: string) => void }) {
  const t = useTexts()
  const parts = folder.split('/').filter(Boolean)
  if (!parts.length) return null
  return (
    <nav aria-label={t.files.path}>
      <ol className="path">
        <li><button type="button" className="link" onClick={() => onFolder('')}>{t.files.root}</button></li>
        {parts.map((part, i) => (
          <li key={parts.slice(0, i + 1).join('/')}>
            {i === parts.length - 1 ? (
              <span aria-current="page">{part}</span>
            ) : (
              <button type="button" className="link" onClick={() => onFolder(`${parts.slice(0, i + 1).join('/')}/`)}>{part}</button>
            )}
          </li>
        ))}
      </ol>
    </nav>
  )
}

interface RowProps {
  file: File
  s3: S3Client
  scope: BrokerScope
  onRemove: (file: File) => void
  onProblem: (problem: { title: string; error: unknown }) => void
}

function Row({ file, s3, scope, onRemove, onProblem }: RowProps) {
  const t = useTexts()
  const [share, setShare] = useState<number>()
  const fetchIt = async () => {
    setShare(0)
    try {
      await download(s3, scope.bucket, file, setShare)
    } catch (error) {
      onProblem({ title: t.files.failedDownload(file.name), error })
    } finally {
      setShare(undefined)
    }
  }
  return (
    <tr>
      <td className="name"><span className="file-name"><FileIcon />{file.name}</span></td>
      <td className="number">{bytes(file.size, t.locale)}</td>
      <td className="when">{file.modified ? date(file.modified, t.locale) : ''}</td>
      <td className="row-actions">
        {scope.access.includes('read') && (
          <button type="button" className="button small" disabled={share !== undefined} aria-label={t.files.download(file.name)} onClick={() => void fetchIt()}>
            {share === undefined ? t.files.downloadShort : percent(share, t.locale)}
          </button>
        )}
        {scope.access.includes('delete') && (
          <button type="button" className="button small" aria-label={t.files.remove(file.name)} onClick={() => onRemove(file)}>{t.files.removeShort}</button>
        )}
      </td>
    </tr>
  )
}

/** Folders are only names in S3: a new one is where the next file goes. */
function NewFolder({ onCreate }: { onCreate: (name: string) => void }) {
  const t = useTexts()
  const [name, setName] = useState<string>()
  if (name === undefined) return <button type="button" className="button" onClick={() => setName('')}>{t.files.newFolder}</button>
  return (
    <form
      className="inline-form"
      onSubmit={(e) => {
        e.preventDefault()
        if (name.trim()) onCreate(name)
        setName(undefined)
      }}
    >
      <input autoFocus value={name} aria-label={t.files.folderName} placeholder={t.files.folderName} maxLength={100} onChange={(e) => setName(e.target.value)} />
      <button type="submit" className="button primary">{t.files.create}</button>
      <button type="button" className="button" onClick={() => setName(undefined)}>{t.files.cancel}</button>
    </form>
  )
}

function Confirm({ file, onYes, onNo }: { file: File; onYes: () => void; onNo: () => void }) {
  const t = useTexts()
  const dialog = useRef<HTMLDialogElement>(null)
  const close = useCallback(() => dialog.current?.close(), [])
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null
    dialog.current?.showModal()
    return () => before?.focus()
  }, [])
  return (
    <dialog ref={dialog} aria-labelledby="confirm" onClose={onNo}>
      <h2 id="confirm">{t.files.removeTitle}</h2>
      <p>{t.files.removeText(file.name)}</p>
      <p className="actions">
        <button type="button" className="button" onClick={close}>{t.files.cancel}</button>
        <button type="button" className="button danger" onClick={onYes}>{t.files.removeShort}</button>
      </p>
    </dialog>
  )
}
