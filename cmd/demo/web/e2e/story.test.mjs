// A person signs in, uploads, finds, fetches and deletes files, tries to get out, and leaves; then somebody else comes.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { add, bodySize, fetched, launch, noise, open, progress, row, signIn, signOut, slow, story, watchProgress } from './kit.mjs'

let browser
before(async () => void (browser = await launch()))
after(() => browser.close())

const s3 = new URL(story.s3).origin
const inS3 = (request) => request.url().startsWith(`${s3}/`)
const toBroker = (request) => request.url().startsWith(`${story.broker}/`)

test('Alice uploads, finds, fetches and deletes, and no file byte goes to the broker', async () => {
  const { page, log } = await open(browser, story)
  await signIn(page, 'Alice')
  await page.getByText('tenants/org_acme/', { exact: true }).first().waitFor()
  assert.equal(page.url(), `${story.page}/`, 'the code stays in the address')
  await row(page, 'welcome.txt').waitFor()

  const small = noise('small é 日本.bin', 3_000)
  const large = noise('large.bin', 60_000_000)
  await watchProgress(page)
  await add(page, small, large) // both at once
  await row(page, large.name).waitFor()
  await row(page, small.name).waitFor()
  const seen = (await progress(page)).filter((value) => value > 0 && value < 100)
  assert.ok(seen.length >= 3, `the bar moved only through ${seen}`)
  const parts = log.requests.filter((r) => inS3(r) && r.method() === 'PUT' && /partNumber=/.test(r.url()))
  assert.ok(parts.length >= 12, `${parts.length} parts`)
  assert.match(await row(page, large.name).innerText(), /60 MB/)

  assert.equal(await fetched(page, small.name), small.digest)
  assert.equal(await fetched(page, large.name), large.digest)

  // What the page itself says of its bytes is what the network log says.
  const bytes = async (id) => Number(await page.getByTestId(id).getAttribute('data-bytes'))
  assert.ok((await bytes('bytes-s3')) >= 60_003_000)
  assert.ok((await bytes('bytes-broker')) < 65_536)
  let sent = 0
  for (const request of log.requests) {
    const size = await bodySize(request)
    if (inS3(request)) sent += size
    if (toBroker(request)) assert.ok(size <= 64 << 10, `${size} bytes to ${request.url()}`)
  }
  assert.ok(sent >= 60_003_000, `the log shows only ${sent} bytes to S3: it would not have shown them to the broker either`)
  assert.ok(log.requests.some(toBroker))

  // Folders
  await page.getByRole('button', { name: 'New folder' }).click()
  await page.getByLabel('Name of the folder').fill('letters')
  await page.getByRole('button', { name: 'Open', exact: true }).click()
  await page.getByText('Nothing here yet').waitFor()
  await add(page, noise('letter.txt', 100))
  await row(page, 'letter.txt').waitFor()
  await page.getByRole('button', { name: 'Home' }).click()
  await page.getByRole('button', { name: 'letters' }).click()
  await row(page, 'letter.txt').waitFor()
  await page.getByRole('button', { name: 'Home' }).click()

  for (const file of [small, large]) {
    await page.getByRole('button', { name: `Delete ${file.name}` }).click()
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click()
    await row(page, file.name).waitFor({ state: 'detached' })
  }
  await row(page, 'welcome.txt').waitFor()

  // The token: in no address, in no storage; and the page's policy was never in its own way.
  const token = /eyJ[\w-]+\.[\w-]+\.[\w-]+/
  for (const request of log.requests) assert.doesNotMatch(request.url(), token)
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]))
  assert.doesNotMatch(kept, token)
  assert.deepEqual(log.complaints, [])

  // A reload is no sign-out.
  await page.reload()
  await row(page, 'welcome.txt').waitFor()
  assert.equal(page.url(), `${story.page}/`)

  await signOut(page)
  assert.ok(log.requests.some((r) => toBroker(r) && r.method() === 'DELETE'), 'the broker was not told to forget')
})

test('an upload is paused, resumed and cancelled, and what was sent of it is dropped', async () => {
  const { page, log } = await open(browser, story)
  await signIn(page, 'Amy')
  await row(page, 'welcome.txt').waitFor()
  await slow(page, 4_000_000)
  const file = noise('paused.bin', 24_000_000)
  const parts = () => log.requests.filter((r) => r.method() === 'PUT' && /partNumber=/.test(r.url())).length
  await add(page, file)
  while (parts() < 2) await page.waitForTimeout(50)
  await page.getByRole('button', { name: 'Pause', exact: true }).click()
  await page.waitForTimeout(300)
  const before = parts()
  await page.waitForTimeout(1_500)
  assert.equal(parts(), before, 'it goes on while it is paused')
  await page.getByRole('button', { name: 'Resume', exact: true }).click()
  while (parts() === before) await page.waitForTimeout(50)
  assert.ok(log.requests.some((r) => r.method() === 'GET' && /uploadId=/.test(r.url())), 'S3 was not asked for what it has')
  const aborted = page.waitForResponse((r) => r.request().method() === 'DELETE' && /uploadId=/.test(r.url()))
  await page.getByRole('button', { name: 'Cancel', exact: true }).first().click()
  assert.equal((await aborted).status(), 204)
  await page.getByRole('button', { name: 'Refresh' }).click()
  await row(page, 'welcome.txt').waitFor()
  assert.equal(await row(page, file.name).count(), 0)

  // The other way: the AWS SDK alone.
  await slow(page, -1)
  await page.getByRole('button', { name: 'Send 12 MB of noise' }).click()
  await row(page, 'noise.bin').waitFor()
  assert.match(await row(page, 'noise.bin').innerText(), /12 MB/)
})

test('the local AWS refuses four ways of breaking in, and the page shows what it said', async () => {
  const { page, log } = await open(browser, story)
  await signIn(page, 'Alice')
  await row(page, 'welcome.txt').waitFor()
  const answers = []
  page.on('response', async (response) => {
    if (!inS3(response.request()) || response.request().method() === 'OPTIONS') return
    const { pathname, search } = new URL(response.url())
    const body = await response.text().catch(() => '')
    answers.push({ what: `${response.request().method()} ${pathname}${search}`, form: response.request().postData() ?? '', status: response.status(), body })
  })
  await page.getByRole('button', { name: 'Try all four' }).click()
  for (const name of ['read', 'list', 'write', 'sts']) await page.locator(`[data-testid=attempt-${name}][data-verdict=refused]`).waitFor()

  const said = (what, form = /^/) => answers.find((a) => what.test(a.what) && form.test(a.form)) ?? assert.fail(`nobody asked ${what}: ${answers.map((a) => a.what)}`)
  const denied = [/^GET \/acme-uploads\/tenants\/org_globex\/payroll\.txt/, /^GET \/acme-uploads\/\?list-type=2$/, /^PUT \/acme-uploads\/tenants\/org_acme2\/planted\.txt/]
  for (const what of denied) {
    const { status, body } = said(what)
    assert.equal(status, 403)
    assert.match(body, /<Code>AccessDenied<\/Code>/)
  }
  assert.equal(said(/^POST \/$/, /Action=GetCallerIdentity/).status, 200)
  const sts = said(/^POST \/$/, /Action=AssumeRoleWithWebIdentity/)
  assert.equal(sts.status, 400)
  assert.match(sts.body, /<Code>InvalidIdentityToken<\/Code>/)
  assert.match(sts.form, /WebIdentityToken=eyJ/) // with her own token,
  assert.doesNotMatch(sts.form, /Policy=/) // without a policy
  for (const text of ['Refused by S3', 'Refused by STS', '403 AccessDenied', '400 InvalidIdentityToken']) {
    assert.ok((await page.getByText(text).count()) > 0, `the page does not say ${text}`)
  }

  // The same requests are not refused as such: what stands inside is read, listed and written all the time.
  assert.equal(await page.getByText('the wall has a hole').count(), 0)

  await page.getByRole('button', { name: 'Ask for all buckets' }).click()
  await page.getByTestId('buckets').getByText('Your browser did not let the page ask').waitFor()
  assert.deepEqual(log.complaints, [])
})

test('Bob sees none of Alice’s files', async () => {
  const { page } = await open(browser, story)
  await signIn(page, 'Alice')
  await row(page, 'welcome.txt').waitFor()
  await add(page, noise('alices.txt', 10))
  await row(page, 'alices.txt').waitFor()
  await signOut(page)
  await signIn(page, 'Bob')
  await row(page, 'payroll.txt').waitFor()
  assert.ok(await page.getByText('tenants/org_globex/').first().isVisible())
  assert.deepEqual(await page.locator('table.files td.name').allInnerTexts(), ['payroll.txt', 'welcome.txt'])
  assert.doesNotMatch(await page.locator('body').innerText(), /alices\.txt|Alice/)
})

test('Mallory is told why she has no access', async () => {
  const { page } = await open(browser, story)
  await signIn(page, 'Mallory')
  await page.getByText('Your token names no organization').waitFor()
  const text = await page.locator('main').innerText()
  assert.match(text, /Mallory Moss, Auth0 knows you/)
  assert.match(text, /Ask an administrator to add you to an organization/)
  assert.match(text, /invalid_tenant/)
  assert.match(text, /[0-9a-f]{32}/) // the request's number, for the operator
  await page.getByRole('button', { name: 'Sign in as somebody else' }).click()
  await page.getByRole('button', { name: 'Bob' }).click()
  await row(page, 'payroll.txt').waitFor()
})
