// Counts what this page sends, and where: every fetch and every XMLHttpRequest, whichever library makes it. Bodies and
// their number only; headers are a few kilobytes a request.
import type { Config } from './config'

export type Place = 's3' | 'broker' | 'auth0' | 'sts'
export interface Count {
  requests: number
  bytes: number
  /** The largest body of one request. */
  largest: number
}
export type Counts = Readonly<Record<Place, Readonly<Count>>>

const zero = { requests: 0, bytes: 0, largest: 0 }
let counts: Counts = { s3: zero, broker: zero, auth0: zero, sts: zero }
const listeners = new Set<() => void>()

export const meter = {
  subscribe(listener: () => void) {
    listeners.add(listener)
    return () => void listeners.delete(listener)
  },
  read: () => counts,
}

function add(place: Place | undefined, bytes: number) {
  if (!place) return
  const old = counts[place]
  counts = { ...counts, [place]: { requests: old.requests + 1, bytes: old.bytes + bytes, largest: Math.max(old.largest, bytes) } }
  for (const listener of listeners) listener()
}

/** How long a body is. A stream cannot tell, and nothing here sends one. */
function sizeOf(body: unknown): number {
  if (typeof body === 'string') return new TextEncoder().encode(body).length
  if (body instanceof Blob) return body.size
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return body.byteLength
  if (body instanceof URLSearchParams) return body.toString().length
  return 0
}

export function startMeter(config: Config) {
  const origin = (url: string) => new URL(url).origin
  const place = (url: string): Place | undefined => {
    const target = new URL(url, window.location.href)
    if (target.origin === origin(config.broker)) return 'broker'
    if (target.origin === origin(config.issuer)) return 'auth0'
    // The local AWS is one address: STS is asked at its root, by POST.
    if (target.origin === origin(config.sts) && target.pathname === '/') return 'sts'
    return target.origin === window.location.origin ? undefined : 's3'
  }

  // A Request does not tell how long its body is: that is noted when it is made.
  const sizes = new WeakMap<Request, number>()
  window.Request = class extends Request {
    constructor(input: RequestInfo | URL, init?: RequestInit) {
      super(input, init)
      sizes.set(this, init?.body ? sizeOf(init.body) : input instanceof Request ? (sizes.get(input) ?? 0) : 0)
    }
  }
  const fetched = window.fetch
  window.fetch = (input, init) => {
    const request = input instanceof Request ? input : undefined
    add(place(request?.url ?? String(input)), init?.body ? sizeOf(init.body) : request ? (sizes.get(request) ?? 0) : 0)
    return fetched(input, init)
  }

  const opened = XMLHttpRequest.prototype.open
  const sent = XMLHttpRequest.prototype.send
  const targets = new WeakMap<XMLHttpRequest, Place | undefined>()
  XMLHttpRequest.prototype.open = function (this: XMLHttpRequest, method: string, url: string | URL, ...rest: unknown[]) {
    targets.set(this, place(String(url)))
    return (opened as (...all: unknown[]) => void).call(this, method, url, ...rest)
  }
  XMLHttpRequest.prototype.send = function (this: XMLHttpRequest, body) {
    add(targets.get(this), sizeOf(body))
    return sent.call(this, body)
  }
}
