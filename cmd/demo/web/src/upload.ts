// Uppy with the broker's credentials: drag and drop, progress, pause, resume and cancel; large files in parts.
import AwsS3 from '@uppy/aws-s3'
import Uppy, { type Meta } from '@uppy/core'
import Dashboard from '@uppy/dashboard'
import type { Broker, BrokerScope } from './broker'
import type { Config } from './config'
import { bucketUrl, safeName } from './s3'

const MiB = 1 << 20
/** From here on in parts: S3 takes no part but the last below 5 MiB. */
export const multipartFrom = 8 * MiB
/** Of a part at least; what fails is sent again, so small parts lose little. */
const partSize = 5 * MiB

export interface FileMeta extends Meta {
  /** Where the person stood when the file was added: below the prefix, "" or ending in "/". */
  folder?: string
  relativePath?: string | null
}
export type Uploader = Uppy<FileMeta, Record<string, never>>

/** The key of a file: always below the prefix. */
export function keyOf(prefix: string, folder: string, relativePath: string | null | undefined, name: string) {
  const within = (relativePath ?? '').split('/').slice(0, -1).filter(Boolean).map(safeName)
  return prefix + folder + [...within, safeName(name)].join('/')
}

export function startUploads(config: Config, scope: BrokerScope, broker: Broker, folder: () => string): Uploader {
  const uppy: Uploader = new Uppy({
    autoProceed: true,
    onBeforeFileAdded: (file) => ({ ...file, meta: { ...file.meta, folder: folder() } }),
  })
  uppy.use(AwsS3, {
    s3Endpoint: bucketUrl(config, scope),
    region: scope.region,
    getCredentials: (options) => broker.uppy(options?.signal ? { signal: options.signal } : {}),
    shouldUseMultipart: (file) => (file.size ?? 0) >= multipartFrom,
    getChunkSize: ({ size }) => Math.max(partSize, Math.ceil(size / 10_000)),
    generateObjectKey: ({ meta, name }) => keyOf(scope.prefix, String(meta.folder ?? ''), meta.relativePath, name ?? ''),
    allowedMetaFields: [],
    limit: 3, // files at a time
  })
  return uppy
}

export function mountDashboard(uppy: Uploader, target: HTMLElement) {
  uppy.use(Dashboard, {
    target,
    inline: true,
    width: '100%',
    height: 300,
    theme: 'light',
    fileManagerSelectionType: 'both',
    proudlyDisplayPoweredByUppy: false,
    singleFileFullScreen: false,
    hideProgressDetails: true, // its estimate begins hours off, and most uploads are over by then
  })
  // Uppy calls a file a list's item even where it is alone and there is no list around it.
  const observer = new MutationObserver(() => target.querySelector('.uppy-Dashboard-files:not([role])')?.setAttribute('role', 'list'))
  observer.observe(target, { subtree: true, childList: true })
  return () => {
    observer.disconnect()
    const dashboard = uppy.getPlugin('Dashboard')
    if (dashboard) uppy.removePlugin(dashboard)
  }
}
