// Sessions of seconds, and a broker that goes away: uploads finish all the same.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { add, fetched, launch, noise, open, row, short, signIn, slow, tell } from './kit.mjs'

let browser
before(async () => void (browser = await launch()))
after(() => browser.close())

const part = (request) => request.method() === 'PUT' && /partNumber=/.test(request.url())
const keyOf = (request) => new URL(request.url()).searchParams.get('X-Amz-Credential').split('/')[0]

test('credentials run out in the middle of an upload, and it finishes with others', async () => {
  const { page, log } = await open(browser, short)
  await signIn(page, 'Alice')
  await row(page, 'welcome.txt').waitFor()
  await slow(page, 3_000_000)
  const file = noise('long.bin', 60_000_000) // twenty seconds; a session has twelve
  await add(page, file)
  await row(page, file.name).waitFor()
  const keys = new Set(log.requests.filter(part).map(keyOf))
  assert.ok(keys.size >= 2, `all parts were signed by ${[...keys]}`)
  assert.ok(Number(await page.getByTestId('renewals').getAttribute('data-count')) >= 1, 'the page does not tell of the renewal')
  await slow(page, -1)
  assert.equal(await fetched(page, file.name), file.digest)
})

test('the broker is away for ten seconds in the middle of an upload; the page says so, waits, and recovers', async () => {
  const { page, log } = await open(browser, short)
  await signIn(page, 'Alice')
  await row(page, 'welcome.txt').waitFor()
  await slow(page, 2_500_000)
  const refused = []
  page.on('response', async (response) => {
    if (part(response.request()) && response.status() === 400) refused.push(await response.text())
  })
  const file = noise('patient.bin', 50_000_000)
  await add(page, file)
  while (!log.requests.some(part)) await page.waitForTimeout(50)
  await tell('broker/stop')
  const gone = Date.now()
  await page.getByText('The broker does not answer').waitFor()
  while (Date.now() - gone < 10_000 || refused.length === 0) {
    assert.ok(Date.now() - gone < 60_000, 'S3 went on taking parts')
    await page.waitForTimeout(100)
  }
  assert.match(refused[0], /<Code>ExpiredToken<\/Code>/) // so the page did need the broker
  assert.equal(await row(page, file.name).count(), 0)
  await tell('broker/start')
  await row(page, file.name).waitFor()
  await page.getByText('The broker does not answer').waitFor({ state: 'detached' })
  await slow(page, -1)
  assert.equal(await fetched(page, file.name), file.digest)
})

test('somebody who comes while the broker is away gets in when it is back', async () => {
  const { page } = await open(browser, short)
  await tell('broker/stop')
  await signIn(page, 'Alice')
  await page.getByText('The broker cannot be reached').waitFor()
  await tell('broker/start')
  await row(page, 'welcome.txt').waitFor()
})
