// Each rule of client.js has a test that fails without it. Time stands still unless a test moves it.
import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { createServer } from 'node:http'
import { after, afterEach, beforeEach, mock, test as nodeTest } from 'node:test'

import { Amplify, fetchAuthSession } from '@aws-amplify/core'
import { GetObjectCommand, S3Client } from '@aws-sdk/client-s3'

import { BrokerError, brokerCredentials } from 'credential-broker-client'

const second = 1000
const minute = 60 * second
const hour = 60 * minute
const start = Date.parse('2026-11-24T12:00:00Z')
const token = 'canary-header.canary-payload.canary-signature'
const url = 'https://broker.example'

// A test that waits for ever fails, alone: ten times what the longest takes on a busy machine.
const test = (name, body) => nodeTest(name, { timeout: 30 * second }, body)
const alive = setInterval(() => {}, second)
after(() => clearInterval(alive))

let random
beforeEach(() => {
  random = 0.5
  mock.method(Math, 'random', () => random)
  mock.timers.enable({ apis: ['Date', 'setTimeout'], now: start })
})
afterEach(() => {
  mock.timers.reset()
  mock.restoreAll()
})

/** Lets everything happen that waits for no timer. */
const settle = async () => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate)
}

/** Moves time in small steps, so that a timer that is set on the way strikes, too. */
const pass = async (ms, step = Math.ceil(ms / 100)) => {
  await settle()
  for (let left = ms; left > 0; left -= step) {
    mock.timers.tick(Math.min(step, left))
    await settle()
  }
}

const json = (status, body, headers = {}) =>
  new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', 'x-request-id': 'id-1', ...headers } })
const refusal = (status, Code, headers, Message = 'It is so.') => () => json(status, { Code, Message, RequestId: 'id-1' }, headers)

/** A broker that gives the n-th caller key n, unless `next` holds something else for it to do. */
const newBroker = ({ skew = 0, life = hour } = {}) => {
  const broker = {
    asked: [], // {url, at, ...init}
    next: [],
    skew,
    life,
    answer(change = {}) {
      const now = Date.now() + broker.skew
      const n = broker.asked.filter((r) => r.method === 'GET').length
      return {
        credentials: {
          accessKeyId: `ASIA${n}`,
          secretAccessKey: `canary-secret-${n}`,
          sessionToken: `canary-session-${n}`,
          expiration: new Date(now + broker.life).toISOString().replace(/\.\d+Z/, 'Z'),
        },
        bucket: 'acme-uploads',
        region: 'ap-northeast-1',
        prefix: 'tenants/org_acme/',
        access: ['list', 'read'],
        grant: 'uploads',
        serverTime: new Date(now).toISOString().replace(/\.\d+Z/, 'Z'),
        ...change,
      }
    },
    fetch: async (address, init) => {
      broker.asked.push({ url: address, at: Date.now() - start, ...init })
      const next = broker.next.shift()
      if (next) return next(address, init)
      return init.method === 'DELETE' ? new Response(null, { status: 204 }) : json(200, broker.answer())
    },
    get gets() {
      return broker.asked.filter((r) => r.method === 'GET').length
    },
  }
  return broker
}

const newCredentials = (broker, options = {}) => brokerCredentials({ url, getToken: async () => token, fetch: broker.fetch, ...options })
const nothing = () => new Promise(() => {})
const code = (want, details = {}) => (error) => {
  assert.ok(error instanceof BrokerError && error instanceof Error, error)
  assert.equal(error.code, want)
  assert.equal(error.name, 'BrokerError')
  assert.ok(!JSON.stringify([error.message, error.stack, error, String(error.cause)]).includes('canary'), error.message)
  for (const [name, value] of Object.entries(details)) assert.equal(error[name], value, name)
  return true
}
const rejects = (promise, want, details) => assert.rejects(promise, code(want, details))

// --- one answer, one flight ---

test('a stampede of 100 calls makes one request', async () => {
  const broker = newBroker()
  const getToken = mock.fn(async () => token)
  const credentials = newCredentials(broker, { getToken })
  const all = await Promise.all(Array.from({ length: 100 }, () => credentials()))
  assert.equal(broker.gets, 1)
  assert.equal(getToken.mock.callCount(), 1)
  for (const given of all)
    assert.deepEqual(given, {
      accessKeyId: 'ASIA1',
      secretAccessKey: 'canary-secret-1',
      sessionToken: 'canary-session-1',
      expiration: new Date(start + hour),
    })
  await credentials()
  assert.equal(broker.gets, 1)
})

test('what a caller does to its copy changes nobody else’s', async () => {
  const credentials = newCredentials(newBroker())
  ;(await credentials()).accessKeyId = 'changed'
  ;(await credentials.ready()).bucket = 'changed'
  ;(await credentials.amplify().getCredentialsAndIdentityId()).credentials.accessKeyId = 'changed'
  assert.equal((await credentials()).accessKeyId, 'ASIA1')
  assert.equal((await credentials.ready()).bucket, 'acme-uploads')
  const heard = []
  const other = newCredentials(newBroker(), { onCredentials: (info) => heard.push((info.bucket = 'changed')) })
  await other()
  await settle()
  assert.deepEqual([heard, other.bucket], [['changed'], 'acme-uploads'])
})

test('a failure is not cached, and is shared by those who waited for it', async () => {
  const broker = newBroker()
  broker.next.push(refusal(403, 'no_grant'))
  const credentials = newCredentials(broker)
  const all = Array.from({ length: 100 }, () => credentials())
  for (const one of all) await rejects(one, 'no_grant', { status: 403, requestId: 'id-1' })
  assert.equal(broker.gets, 1)
  assert.equal((await credentials()).accessKeyId, 'ASIA2')
})

test('a fresh Auth0 token is asked for before each request', async () => {
  const broker = newBroker()
  let n = 0
  const getToken = mock.fn(async () => `a.b.${++n}`)
  const credentials = newCredentials(broker, { getToken })
  broker.next.push(refusal(503, 'busy'))
  const first = credentials()
  await pass(second)
  await first
  await credentials({ forceRefresh: true })
  assert.deepEqual(broker.asked.map((r) => r.headers.authorization), ['Bearer a.b.1', 'Bearer a.b.2', 'Bearer a.b.3'])
  assert.deepEqual(getToken.mock.calls.map((c) => c.arguments), [[{ fresh: false }], [{ fresh: false }], [{ fresh: false }]])
})

test('forceRefresh asks again, joins a flight, and leaves what is there when it fails', async () => {
  const broker = newBroker()
  const credentials = newCredentials(broker)
  await credentials()
  const [forced, also] = await Promise.all([credentials({ forceRefresh: true }), credentials({ forceRefresh: true })])
  assert.deepEqual([forced.accessKeyId, also.accessKeyId, broker.gets], ['ASIA2', 'ASIA2', 2])
  broker.next.push(refusal(403, 'revoked'))
  await rejects(credentials({ forceRefresh: true }), 'revoked')
  assert.equal((await credentials({ forceRefresh: false })).accessKeyId, 'ASIA2')
})

// --- the request ---

test('the request says what is wanted, and the token stands in its header alone', async () => {
  const broker = newBroker()
  await newCredentials(broker)()
  const [{ url: address, at, signal, ...init }] = broker.asked
  assert.equal(address, `${url}/v1/credentials?format=js`)
  assert.deepEqual(init, {
    method: 'GET',
    headers: { authorization: `Bearer ${token}` },
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
  })
  assert.ok(signal instanceof AbortSignal)
})

test('options become parameters, an empty list of accesses too: it is for the broker to refuse', async () => {
  const query = async (options) => {
    const broker = newBroker()
    await newCredentials(broker, options)()
    return broker.asked[0].url
  }
  const all = { grant: 'up&loads', access: ['list', 'write'], path: 'a/b c', tenant: 'org_acme', duration: 900 }
  assert.equal(
    await query(all),
    `${url}/v1/credentials?format=js&grant=up%26loads&access=list%2Cwrite&path=a%2Fb+c&tenant=org_acme&duration=900`,
  )
  assert.equal(await query({ access: 'read', duration: '20m' }), `${url}/v1/credentials?format=js&access=read&duration=20m`)
  assert.equal(await query({ access: [] }), `${url}/v1/credentials?format=js&access=`)
  assert.equal(await query({ grant: undefined, path: undefined }), `${url}/v1/credentials?format=js`)
})

test('an option that is not known is refused: it would give more than was asked for, or tell the token', () => {
  for (const option of ['acces', 'token', 'format', 'Grant', 'xgrant', 'grants'])
    assert.throws(() => newCredentials(newBroker(), { [option]: 'read' }), TypeError, option)
})

test('the broker may stand below a path', async () => {
  for (const [given, want] of [
    [`${url}/`, url],
    [`${url}/broker`, `${url}/broker`],
    [`${url}/broker//?x=1#y`, `${url}/broker`],
    ['https://user:password@broker.example', url],
  ]) {
    const broker = newBroker()
    await newCredentials(broker, { url: given })()
    assert.equal(broker.asked[0].url, `${want}/v1/credentials?format=js`)
  }
})

test('a token goes over https, or stays on the machine', () => {
  for (const good of ['http://localhost:8080', 'http://127.0.0.1:8080', 'http://127.9.8.7', 'http://[::1]:8080'])
    assert.doesNotThrow(() => newCredentials(newBroker(), { url: good }), good)
  for (const bad of ['http://broker.example', 'http://localhost.example', 'http://127.0.0.1.example', 'http://x.localhost.example', 'ftp://broker.example', 'http://10.0.0.1'])
    assert.throws(() => newCredentials(newBroker(), { url: bad }), TypeError, bad)
  assert.throws(() => newCredentials(newBroker(), { url: '/broker' }), 'relative, where there is no page')
})

test('an address is relative to the page', async (t) => {
  t.after(() => delete globalThis.location)
  globalThis.location = { href: 'https://app.example/page/' }
  const broker = newBroker()
  await newCredentials(broker, { url: '/broker' })()
  assert.equal(broker.asked[0].url, 'https://app.example/broker/v1/credentials?format=js')
})

test('what is no token is not sent, and not told', async () => {
  for (const bad of [undefined, null, '', 'canary\n', 'canary canary', 'canary\u00fc']) {
    const broker = newBroker()
    await rejects(newCredentials(broker, { getToken: async () => bad })(), 'missing_token', { status: undefined })
    assert.equal(broker.asked.length, 0)
  }
})

test('what getToken throws arrives as it is, at once, and is not kept', async () => {
  for (const thrown of [new Error('login_required'), Object.assign(new Error('x'), { status: 503, code: 'network' }), Object.assign(new Error('x'), { code: 'expired_token' })]) {
    const broker = newBroker()
    const getToken = mock.fn(async () => token)
    getToken.mock.mockImplementationOnce(() => {
      throw thrown
    })
    const credentials = newCredentials(broker, { getToken })
    await assert.rejects(credentials(), (error) => error === thrown)
    assert.equal(getToken.mock.callCount(), 1)
    assert.equal((await credentials()).accessKeyId, 'ASIA1')
  }
})

// --- real fetch ---

test('the global fetch is used, and the token follows no redirect', async (t) => {
  mock.timers.reset()
  const seen = []
  const broker = newBroker()
  const server = createServer((request, response) => {
    seen.push([request.method, request.url, request.headers.authorization])
    if (request.url.startsWith('/moved')) return response.writeHead(307, { location: '/elsewhere' }).end()
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(broker.answer()))
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => server.close())
  t.after(() => server.closeAllConnections())
  const base = `http://127.0.0.1:${server.address().port}`
  assert.equal((await brokerCredentials({ url: base, getToken: () => token })()).accessKeyId, 'ASIA0')
  assert.deepEqual(seen.splice(0), [['GET', '/v1/credentials?format=js', `Bearer ${token}`]])
  random = 0 // no pauses
  await rejects(brokerCredentials({ url: `${base}/moved`, getToken: () => token })(), 'network')
  assert.equal(seen.length, 4)
  assert.ok(seen.every(([, path]) => path.startsWith('/moved/')))
})

// --- half-life ---

for (const [jitter, share] of [[0, 0.45], [0.5, 0.5], [0.999999, 0.55]])
  test(`from ${share} of their life on, credentials are still given, and one request fetches new ones`, async () => {
    const broker = newBroker()
    const credentials = newCredentials(broker)
    random = jitter
    await credentials()
    mock.timers.tick(share * hour - 100)
    await credentials()
    await settle()
    assert.equal(broker.gets, 1)
    mock.timers.tick(200)
    let answer
    broker.next.push(() => new Promise((resolve) => (answer = resolve)))
    const all = await Promise.all(Array.from({ length: 100 }, () => credentials()))
    assert.ok(all.every((given) => given.accessKeyId === 'ASIA1'))
    assert.equal((await credentials()).accessKeyId, 'ASIA1') // while it is under way
    await settle()
    answer(json(200, broker.answer()))
    await settle()
    assert.equal(broker.gets, 2)
    assert.equal((await credentials()).accessKeyId, 'ASIA2')
    assert.deepEqual(credentials.expiration, new Date(Date.now() + hour))
  })

test('when a refresh in the background fails, what is there is given until a minute before its end', async () => {
  const broker = newBroker()
  const credentials = newCredentials(broker)
  await credentials()
  mock.timers.tick(hour / 2)
  broker.next.push(refusal(403, 'revoked'))
  assert.equal((await credentials()).accessKeyId, 'ASIA1')
  await settle()
  assert.equal(broker.gets, 2)
  for (let i = 0; i < 100; i++) await credentials() // nobody hammers
  mock.timers.tick(30 * second - 1)
  await credentials()
  await settle()
  assert.equal(broker.gets, 2)
  mock.timers.tick(1)
  broker.next.push(refusal(403, 'revoked', { 'retry-after': '100' }))
  await credentials()
  await settle()
  assert.equal(broker.gets, 3)
  mock.timers.tick(100 * second - 1)
  await credentials()
  await settle()
  assert.equal(broker.gets, 3)
  mock.timers.tick(1)
  broker.next.push(refusal(403, 'revoked', { 'retry-after': '3000' }))
  assert.equal((await credentials()).accessKeyId, 'ASIA1')
  await settle()
  assert.equal(broker.gets, 4)
  mock.timers.tick(start + 59 * minute - 1 - Date.now())
  assert.equal((await credentials()).accessKeyId, 'ASIA1')
  await settle()
  assert.equal(broker.gets, 4)
  mock.timers.tick(1)
  broker.next.push(refusal(403, 'revoked'))
  await rejects(credentials(), 'revoked')
  assert.equal((await credentials()).accessKeyId, 'ASIA6')
})

test('credentials with little life left are given all the same, and nobody goes round in circles', async () => {
  const broker = newBroker({ life: 30 * second })
  const credentials = newCredentials(broker)
  assert.equal((await credentials()).accessKeyId, 'ASIA1')
  assert.equal((await credentials()).accessKeyId, 'ASIA2')
  assert.equal(broker.gets, 2)
})

// --- clock ---

for (const skew of [-10 * minute, 10 * minute])
  test(`a clock that is ${-skew / minute} minutes off neither refreshes endlessly nor uses what has expired`, async () => {
    const broker = newBroker({ skew })
    const credentials = newCredentials(broker)
    assert.deepEqual((await credentials()).expiration, new Date(start + hour)) // by this clock
    assert.equal(credentials.clockOffset, skew)
    assert.deepEqual(credentials.expiration, new Date(start + hour))
    for (let i = 0; i < 100; i++) await credentials()
    assert.equal(broker.gets, 1)
    mock.timers.tick(hour / 2)
    await credentials()
    await settle()
    assert.equal(broker.gets, 2)
    mock.timers.tick(59 * minute)
    assert.equal((await credentials()).accessKeyId, 'ASIA3')
  })

// --- retries ---

const transient = [
  ['429', refusal(429, 'rate_limited')],
  ['500', refusal(500, 'internal')],
  ['503', refusal(503, 'sts_unavailable')],
  ['502 of a proxy', () => new Response('<html>', { status: 502 })],
  ['504 of a proxy', () => new Response('<html>', { status: 504 })],
  ['no network', () => Promise.reject(new TypeError(`canary: ${token}`))],
  ['a fetch that throws', () => { throw new TypeError('canary') }],
  ['an answer that breaks off', () => new Response('{"credentials":{"access', { status: 200 })],
]
for (const [name, act] of transient)
  test(`tried again: ${name}`, async () => {
    const broker = newBroker()
    const credentials = newCredentials(broker)
    broker.next.push(act, act, act)
    const given = credentials()
    await pass(3.5 * second, 50)
    assert.equal((await given).accessKeyId, 'ASIA4')
  })

const final = [
  [400, 'invalid_request'], [401, 'missing_token'], [403, 'no_grant'], [403, 'invalid_tenant'], [403, 'scope_not_allowed'],
  [403, 'revoked'], [403, 'origin_not_allowed'], [404, 'not_found'], [405, 'method_not_allowed'], [413, 'too_large'], [502, 'sts_rejected'],
]
for (const [status, Code] of final)
  test(`not tried again: ${status} ${Code}`, async () => {
    const broker = newBroker()
    broker.next.push(refusal(status, Code, {}, `Look here, ${token}.`))
    await assert.rejects(newCredentials(broker)(), (error) => code(Code, { status, requestId: 'id-1', retryAfter: undefined })(error) && error.message === `${Code}: Look here, ***.`)
    assert.equal(broker.gets, 1)
  })

test('a refusal that is not the broker’s has its status for a message', async () => {
  for (const body of ['<html>canary', '"canary"', 'null', '{}']) {
    const broker = newBroker()
    broker.next.push(() => new Response(body, { status: 404 }))
    await assert.rejects(newCredentials(broker)(), (error) => code('bad_answer', { status: 404, requestId: undefined })(error) && error.message === 'bad_answer: 404')
    assert.equal(broker.gets, 1)
  }
})

test('four requests at most, with pauses of up to 0.5, 1 and 2 seconds', async () => {
  for (const [jitter, want] of [[0, [0, 1, 2, 3]], [0.5, [0, 250, 750, 1750]], [1, [0, 500, 1500, 3500]]]) {
    const broker = newBroker()
    const begin = Date.now() - start
    random = jitter
    broker.next.push(...Array(9).fill(refusal(503, 'busy')))
    const given = newCredentials(broker)()
    given.catch(() => {})
    await pass(10, 1)
    await pass(4 * second, 10)
    await rejects(given, 'busy', { status: 503 })
    assert.deepEqual(broker.asked.map((r) => r.at - begin), want) // a timer takes 1 ms at least
  }
})

test('an answer that does not come is given up after 10 seconds, and asked for again', async () => {
  const broker = newBroker()
  random = 0
  broker.next.push(nothing)
  const given = newCredentials(broker)()
  await pass(10 * second, second)
  await pass(1)
  assert.equal((await given).accessKeyId, 'ASIA2')
  assert.deepEqual(broker.asked.map((r) => r.at), [0, 10 * second + 1])
  assert.ok(broker.asked[0].signal.aborted)
  const slow = newBroker()
  slow.next.push(...Array(9).fill(nothing))
  const never = newCredentials(slow)()
  never.catch(() => {})
  await pass(41 * second, 500)
  await rejects(never, 'network', { status: undefined })
})

test('30 seconds after the first request no other begins; the time to sign in does not count', async () => {
  const broker = newBroker()
  random = 0
  broker.next.push(...Array(9).fill(refusal(503, 'busy', { 'retry-after': '14' })))
  const getToken = mock.fn(async () => token)
  getToken.mock.mockImplementationOnce(() => new Promise((resolve) => setTimeout(resolve, minute, token)))
  const given = newCredentials(broker, { getToken })()
  given.catch(() => {})
  await pass(3 * minute, second)
  await rejects(given, 'busy', { retryAfter: 14 })
  assert.deepEqual(broker.asked.map((r) => (r.at - minute) / second), [0, 14, 28])
})

test('Retry-After is heeded, in seconds and as a date by the server’s clock', async () => {
  for (const skew of [0, 10 * minute])
    for (const header of [() => '5', () => new Date(Date.now() + skew + 5 * second).toUTCString()]) {
      const broker = newBroker({ skew })
      random = 0
      const credentials = newCredentials(broker)
      await credentials()
      const begin = Date.now() - start
      broker.next.push(() => refusal(429, 'rate_limited', { 'retry-after': header() })())
      const given = credentials({ forceRefresh: true })
      await pass(6 * second, 500)
      await given
      assert.deepEqual(broker.asked.slice(1).map((r) => r.at - begin), [0, 5 * second], `${skew} ${header()}`)
    }
})

test('the crowd that was told the same Retry-After does not come back together', async () => {
  const broker = newBroker()
  random = 1
  broker.next.push(refusal(503, 'busy', { 'retry-after': '5' }))
  const given = newCredentials(broker)()
  await pass(6 * second, 100)
  await given
  assert.deepEqual(broker.asked.map((r) => r.at), [0, 5500])
})

test('a Retry-After that is too long is told at once; one that is none is left out', async () => {
  for (const [header, want] of [['3600', 3600], ['31', 31], ['0', 0], ['soon', undefined], ['-5', undefined], ['1.5', undefined], ['1e1', undefined], ['', undefined], ['Tue, 24 Nov 2026 11:00:00 GMT', undefined], ['Tue, 24 Nov 2026 12:01:00 GMT', 60]]) {
    const broker = newBroker()
    broker.next.push(...Array(4).fill(refusal(503, 'busy', { 'retry-after': header })))
    const given = newCredentials(broker)()
    given.catch(() => {})
    if (want > 30) await settle()
    else await pass(4 * second, 50)
    await rejects(given, 'busy', { retryAfter: want })
    assert.equal(broker.gets, want > 30 ? 1 : 4, header)
    mock.timers.setTime(start)
  }
})

for (const bad of ['expired_token', 'invalid_token'])
  test(`after ${bad} a new token is asked for, once`, async () => {
    const broker = newBroker()
    const getToken = mock.fn(async () => token)
    const credentials = newCredentials(broker, { getToken })
    const fresh = () => getToken.mock.calls.splice(0).map((c) => c.arguments[0].fresh)
    broker.next.push(refusal(401, bad))
    await credentials() // no pause
    assert.deepEqual(getToken.mock.calls.map((c) => c.arguments[0].fresh), [false, true])
    broker.next.push(refusal(401, bad), refusal(401, bad))
    await rejects(credentials({ forceRefresh: true }), bad, { status: 401 })
    assert.deepEqual(getToken.mock.calls.map((c) => c.arguments[0].fresh), [false, true, false, true])
    broker.next.push(refusal(401, bad), refusal(503, 'busy'))
    const given = credentials({ forceRefresh: true })
    await pass(second)
    await given
    assert.deepEqual(getToken.mock.calls.map((c) => c.arguments[0].fresh), [false, true, false, true, false, true, false])
    broker.next.push(refusal(503, 'busy'), refusal(401, bad))
    const late = credentials({ forceRefresh: true })
    await pass(second)
    await late
    assert.deepEqual(getToken.mock.calls.slice(7).map((c) => c.arguments[0].fresh), [false, false, true])
  })

// --- the answer ---

test('an answer that is not whole, or has expired, is not taken', async () => {
  const whole = newBroker().answer()
  const without = (name) => ({ ...whole, [name]: undefined })
  const but = (name, value) => ({ ...whole, credentials: { ...whole.credentials, [name]: value } })
  for (const body of [
    null, 'x', [], {}, { credentials: null }, without('credentials'), without('serverTime'), without('bucket'), without('region'), without('prefix'),
    but('accessKeyId', ''), but('secretAccessKey', ''), but('sessionToken', ''), but('expiration', undefined), but('expiration', 'soon'),
    but('expiration', whole.serverTime),
  ]) {
    const broker = newBroker()
    broker.next.push(() => json(200, body))
    const credentials = newCredentials(broker)
    await rejects(credentials(), 'bad_answer', { status: 200, requestId: 'id-1' })
    assert.equal(broker.gets, 1)
    assert.equal(credentials.bucket, undefined)
    assert.equal((await credentials()).accessKeyId, 'ASIA2')
  }
})

test('the properties tell of the last answer', async () => {
  const broker = newBroker({ skew: 2 * second })
  const credentials = newCredentials(broker)
  const tell = () => ['bucket', 'region', 'prefix', 'access', 'grant', 'expiration', 'clockOffset'].map((name) => credentials[name])
  assert.deepEqual(tell(), Array(7).fill(undefined))
  const scope = { bucket: 'acme-uploads', region: 'ap-northeast-1', prefix: 'tenants/org_acme/', access: ['list', 'read'], grant: 'uploads' }
  assert.deepEqual(await credentials.ready(), scope)
  assert.deepEqual(tell(), [...Object.values(scope), new Date(start + hour), 2 * second])
  assert.throws(() => {
    credentials.bucket = 'another'
  }, TypeError)
  await credentials.ready()
  assert.equal(broker.gets, 1)
  broker.next.push(() => json(200, broker.answer({ bucket: 'moved' })))
  await credentials({ forceRefresh: true })
  assert.equal(credentials.bucket, 'moved')
  await credentials.signOut()
  assert.deepEqual(tell(), Array(7).fill(undefined))
})

test('onCredentials hears of each new answer, without a secret; what it throws is not the caller’s', async () => {
  const broker = newBroker({ skew: second })
  const heard = mock.fn(() => {
    throw new Error('the page’s own')
  })
  const thrown = []
  mock.method(globalThis, 'queueMicrotask', (callback) => {
    try {
      callback()
    } catch (error) {
      thrown.push(error.message)
    }
  })
  const credentials = newCredentials(broker, { onCredentials: heard })
  await credentials()
  await credentials()
  assert.deepEqual(heard.mock.calls.map((c) => c.arguments), [
    [{ bucket: 'acme-uploads', region: 'ap-northeast-1', prefix: 'tenants/org_acme/', access: ['list', 'read'], grant: 'uploads', expiration: new Date(start + hour), clockOffset: second }],
  ])
  assert.ok(!JSON.stringify(heard.mock.calls).includes('canary'))
  await credentials({ forceRefresh: true })
  assert.equal(heard.mock.callCount(), 2)
  assert.deepEqual(thrown, ['the page’s own', 'the page’s own'])
})

test('nothing is written to the console', async () => {
  const said = ['log', 'info', 'warn', 'error', 'debug'].map((name) => mock.method(console, name, () => {}))
  const broker = newBroker()
  broker.next.push(refusal(403, 'no_grant'))
  const credentials = newCredentials(broker)
  await rejects(credentials(), 'no_grant')
  await credentials()
  await credentials.signOut()
  assert.ok(said.every((method) => method.mock.callCount() === 0))
})

// --- sign-out ---

test('signing out forgets, and tells the broker with a last token', async () => {
  const broker = newBroker()
  const getToken = mock.fn(async () => token)
  const credentials = newCredentials(broker, { getToken, grant: 'uploads' })
  await credentials()
  assert.equal(await credentials.signOut(), undefined)
  const [, { url: address, method, headers }] = broker.asked
  assert.deepEqual([address, method, headers], [`${url}/v1/credentials`, 'DELETE', { authorization: `Bearer ${token}` }])
  assert.deepEqual(getToken.mock.calls.at(-1).arguments, [{ fresh: false }])
  assert.equal((await credentials()).accessKeyId, 'ASIA2') // whoever signs in next
})

test('signing out never fails, is tried once, and takes 5 seconds at most', async () => {
  for (const act of [refusal(503, 'busy'), refusal(401, 'expired_token'), () => Promise.reject(new TypeError('x'))]) {
    const broker = newBroker()
    broker.next.push(act)
    await newCredentials(broker).signOut()
    assert.equal(broker.asked.length, 1)
  }
  await newCredentials(newBroker(), { getToken: () => Promise.reject(new Error('login_required')) }).signOut()
  for (const options of [{ fetch: nothing }, { getToken: nothing }]) {
    let done = false
    newCredentials(newBroker(), options).signOut().then(() => (done = true))
    await pass(5 * second - 1)
    assert.equal(done, false)
    await pass(1)
    assert.equal(done, true)
  }
})

for (const [what, options] of [
  ['getToken', { getToken: nothing }],
  ['fetch', { fetch: nothing }],
  ['the answer', { fetch: async () => ({ ok: true, status: 200, headers: new Headers(), json: nothing }) }],
  ['a pause', { fetch: async () => refusal(503, 'busy', { 'retry-after': '9' })() }],
])
  test(`signing out ends what waits for ${what}`, async () => {
    const credentials = newCredentials(newBroker(), options)
    const given = credentials()
    given.catch(() => {})
    await settle()
    credentials.signOut()
    await rejects(given, 'signed_out')
  })

test('no timer runs, and nothing listens for a sign-out, once it is done', async () => {
  const set = mock.method(globalThis, 'setTimeout')
  const cleared = mock.method(globalThis, 'clearTimeout')
  const made = []
  const original = AbortController
  globalThis.AbortController = class extends original {
    constructor() {
      super()
      made.push(this)
    }
  }
  try {
    const broker = newBroker()
    broker.next.push(refusal(503, 'busy'))
    const given = newCredentials(broker)()
    await settle()
    assert.equal(getEventListeners(made[0].signal, 'abort').length, 1) // the pause
    await pass(second)
    await given
    assert.equal(getEventListeners(made[0].signal, 'abort').length, 0)
    assert.equal(set.mock.callCount(), 3) // two requests and the pause
    for (const { result } of set.mock.calls) assert.ok(cleared.mock.calls.some((c) => c.arguments[0] === result))
  } finally {
    globalThis.AbortController = original
  }
})

test('signing out aborts the request', async () => {
  const broker = newBroker()
  broker.next.push(nothing)
  const credentials = newCredentials(broker)
  const given = credentials()
  given.catch(() => {})
  await settle()
  assert.equal(broker.asked[0].signal.aborted, false)
  credentials.signOut()
  assert.equal(broker.asked[0].signal.aborted, true)
  await rejects(given, 'signed_out')
})

test('wherever a sign-out strikes, nothing of the flight is given or kept, and no request begins', async () => {
  let depth = 0
  let late = 0
  for (let ended = false; !ended; depth++) {
    const broker = newBroker()
    const credentials = newCredentials(broker)
    let out = false
    let given
    const call = credentials().then(
      (keys) => (given = [keys, out]),
      (error) => code('signed_out')(error),
    )
    for (let i = 0; i < depth; i++) await undefined
    ended = given !== undefined
    const before = broker.gets
    out = true
    credentials.signOut()
    assert.equal(credentials.bucket, undefined)
    await call
    await settle()
    assert.equal(broker.gets, before, `${depth} deep: a request after the sign-out`)
    assert.equal(credentials.bucket, undefined, `${depth} deep: kept`)
    if (given?.[1]) late++
    assert.ok(depth < 100)
  }
  assert.ok(depth > 5)
  assert.equal(late, 1) // the last step, from the promise to whoever awaits it, is the caller's own
})

test('who signs in while the old flight is still in the air gets a flight of their own, and one only', async () => {
  const broker = newBroker()
  let old
  broker.next.push(() => new Promise((resolve) => (old = resolve)))
  const credentials = newCredentials(broker)
  const first = credentials()
  first.catch(() => {})
  await settle()
  credentials.signOut()
  let answer
  broker.next.push(() => new Response(null, { status: 204 }), () => new Promise((resolve) => (answer = resolve)))
  await settle()
  const second = credentials()
  await settle()
  old(json(200, broker.answer({ bucket: 'the-old-one' })))
  await settle()
  const third = credentials()
  await settle()
  answer(json(200, broker.answer()))
  await rejects(first, 'signed_out')
  assert.equal((await second).accessKeyId, (await third).accessKeyId)
  assert.equal(broker.gets, 2)
  assert.equal(credentials.bucket, 'acme-uploads')
})

test('who signs in at once does not share the end of the old flight', async () => {
  const broker = newBroker()
  broker.next.push(nothing)
  const credentials = newCredentials(broker)
  const first = credentials()
  first.catch(() => {})
  await settle()
  let answer
  const act = (_, { method }) => (method === 'DELETE' ? new Response(null, { status: 204 }) : new Promise((resolve) => (answer = resolve)))
  broker.next.push(act, act)
  credentials.signOut()
  const second = credentials()
  await rejects(first, 'signed_out')
  await settle()
  const third = credentials() // shares the new one
  await settle()
  assert.equal(broker.gets, 2)
  answer(json(200, broker.answer()))
  assert.equal((await second).accessKeyId, 'ASIA2')
  assert.equal((await third).accessKeyId, 'ASIA2')
})

test('a signal ends everything for good, with its reason', async () => {
  const broker = newBroker()
  const end = new AbortController()
  const reason = new Error('the page is gone')
  const credentials = newCredentials(broker, { signal: end.signal })
  await credentials()
  const forced = credentials({ forceRefresh: true })
  forced.catch(() => {})
  end.abort(reason)
  for (const promise of [forced, credentials(), credentials.ready()]) await assert.rejects(promise, (error) => error === reason)
  assert.equal(credentials.bucket, undefined)
  const late = newCredentials(broker, { signal: end.signal })
  await assert.rejects(late(), (error) => error === reason)
})

// --- under the libraries ---

/** S3, as far as it matters here: it notes who asks, and by what clock. */
const newS3 = async (t, skew = 0) => {
  const seen = []
  const server = createServer((request, response) => {
    const [, key] = /Credential=([^/]+)\//.exec(request.headers.authorization) ?? []
    seen.push({ key, token: request.headers['x-amz-security-token'], date: request.headers['x-amz-date'] })
    request.resume()
    response.writeHead(200, { 'content-type': 'text/plain', date: new Date(Date.now() + skew).toUTCString() }).end('hello')
  })
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  t.after(() => server.close())
  t.after(() => server.closeAllConnections())
  return { seen, endpoint: `http://127.0.0.1:${server.address().port}` }
}

for (const skew of [0, -10 * minute, 10 * minute])
  test(`the AWS SDK asks again when it wants to, and gets what is good (clock ${-skew / minute} minutes off)`, async (t) => {
    mock.timers.reset()
    mock.timers.enable({ apis: ['Date'], now: start })
    const broker = newBroker({ skew })
    const credentials = newCredentials(broker)
    const { region, bucket, prefix } = await credentials.ready()
    const s3 = await newS3(t, skew)
    const client = new S3Client({
      endpoint: s3.endpoint, forcePathStyle: true, region, credentials, systemClockOffset: credentials.clockOffset, maxAttempts: 1,
    })
    t.after(() => client.destroy())
    const get = async (at) => {
      mock.timers.setTime(start + at)
      const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: `${prefix}hello.txt` }))
      assert.equal(await Body.transformToString(), 'hello')
      await settle()
      const { key, token, date } = s3.seen.pop()
      assert.equal(token, key.replace('ASIA', 'canary-session-'))
      assert.equal(date, new Date(start + at + skew).toISOString().replace(/[:-]|\.\d+/g, ''), 'signed by the server’s clock')
      return [key, broker.gets]
    }
    assert.deepEqual(await get(0), ['ASIA1', 1])
    for (let i = 0; i < 20; i++) assert.deepEqual(await get(54 * minute), ['ASIA1', 1]) // the SDK keeps them
    let answer
    broker.next.push(() => new Promise((resolve) => (answer = resolve)))
    assert.deepEqual(await get(56 * minute), ['ASIA1', 2]) // it asks; new ones are fetched meanwhile
    answer(json(200, broker.answer()))
    await settle()
    assert.deepEqual(await get(56 * minute), ['ASIA2', 2])
    for (let i = 0; i < 20; i++) assert.deepEqual(await get(110 * minute), ['ASIA2', 2])
    assert.deepEqual(await get(115.5 * minute), ['ASIA3', 3]) // too late for the old ones: it waits
    assert.deepEqual(await get(400 * minute), ['ASIA4', 4]) // after a sleep
  })

test('the AWS SDK keeps no failure, and a stampede of its commands makes one request', async (t) => {
  mock.timers.reset()
  mock.timers.enable({ apis: ['Date'], now: start })
  const broker = newBroker()
  broker.next.push(refusal(403, 'no_grant'))
  const s3 = await newS3(t)
  const client = new S3Client({ endpoint: s3.endpoint, forcePathStyle: true, region: 'eu-west-1', credentials: newCredentials(broker), maxAttempts: 1 })
  t.after(() => client.destroy())
  const get = () => client.send(new GetObjectCommand({ Bucket: 'acme-uploads', Key: 'x' })).then(({ Body }) => Body.transformToString())
  await assert.rejects(get(), code('no_grant'))
  assert.deepEqual(new Set(await Promise.all(Array.from({ length: 20 }, get))), new Set(['hello']))
  assert.equal(broker.gets, 2)
  assert.equal(s3.seen.length, 20)
})

/** The part of @uppy/aws-s3 that signs; the package exports only the whole, which wants a browser. */
const newUppy = async (getCredentials) => {
  const { S3mini } = await import('./node_modules/@uppy/aws-s3/lib/s3-client/S3mini.js')
  const uppy = new S3mini({ endpoint: 'https://acme-uploads.s3.ap-northeast-1.amazonaws.com', getCredentials })
  return async (send = async ({ url }) => url) => {
    const address = new URL(await uppy.signed({ request: { method: 'PUT', key: 'x' }, send }))
    const [key, , region] = address.searchParams.get('X-Amz-Credential').split('/')
    assert.equal(address.searchParams.get('X-Amz-Security-Token'), key.replace('ASIA', 'canary-session-'))
    assert.equal(region, 'ap-northeast-1')
    return key
  }
}

test('Uppy, which keeps an answer for ever, signs with what is there now, and with nothing after a sign-out', async () => {
  const broker = newBroker()
  const credentials = newCredentials(broker)
  const sign = await newUppy(credentials.uppy())
  assert.equal(await sign(), 'ASIA1')
  mock.timers.tick(hour / 2)
  assert.equal(await sign(), 'ASIA1')
  await settle()
  assert.equal(await sign(), 'ASIA2')
  assert.equal(broker.gets, 2)
  mock.timers.tick(2 * hour) // asleep: S3 would refuse this one, and Uppy come again
  assert.equal(await sign(), 'ASIA2')
  await settle()
  assert.equal(await sign(), 'ASIA3')
  await credentials.signOut()
  await rejects(sign(), 'signed_out')
  assert.equal(broker.gets, 3)
  await credentials.ready()
  assert.equal(await sign(), 'ASIA4')
})

test('Uppy gets the shape that it reads, and keeps no failure', async () => {
  const broker = newBroker({ skew: 10 * minute })
  const get = newCredentials(broker).uppy()
  broker.next.push(refusal(403, 'no_grant'))
  const sign = await newUppy(get)
  await rejects(sign(), 'no_grant')
  assert.equal(await sign(), 'ASIA2')
  const { credentials, ...scope } = await get({})
  assert.deepEqual(credentials, { accessKeyId: 'ASIA2', secretAccessKey: 'canary-secret-2', sessionToken: 'canary-session-2', expiration: '2026-11-24T13:00:00.000Z' })
  assert.deepEqual(scope, { bucket: 'acme-uploads', region: 'ap-northeast-1', prefix: 'tenants/org_acme/', access: ['list', 'read'], grant: 'uploads' })
})

test('Amplify gets its session from the broker, refreshes it, and clears it', async () => {
  const broker = newBroker()
  const credentials = newCredentials(broker)
  const amplify = credentials.amplify()
  Amplify.configure({}, { Auth: { credentialsProvider: amplify } })
  assert.deepEqual((await fetchAuthSession()).credentials, await credentials())
  assert.equal((await fetchAuthSession({ forceRefresh: true })).credentials.accessKeyId, 'ASIA2')
  assert.deepEqual(await amplify.locationCredentialsProvider(), { credentials: await credentials() })
  assert.equal((await amplify.locationCredentialsProvider({ forceRefresh: true })).credentials.accessKeyId, 'ASIA3')
  await amplify.clearCredentialsAndIdentityId()
  assert.equal(credentials.bucket, undefined)
  assert.equal(broker.asked.at(-1).method, 'DELETE')
})
