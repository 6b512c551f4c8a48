// What the tests of the page share: a browser, somebody who signs in, and the page's network log.
import { createHash, randomBytes } from 'node:crypto'
import { createReadStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium } from 'playwright-core'

/** Given by page_test.go, which starts the demo. */
export const story = JSON.parse(process.env.STORY)
export const short = JSON.parse(process.env.SHORT)
export const control = process.env.CONTROL
export const shots = process.env.SHOTS

export const tell = async (what) => {
  const answer = await fetch(`${control}/${what}`, { method: 'POST' })
  if (!answer.ok) throw new Error(`${what}: ${answer.status} ${await answer.text()}`)
}

const flags = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync']
export const launch = () => chromium.launch({ executablePath: process.env.CHROMIUM, args: flags })

/** Opens the page in a browser of its own and keeps its log. */
export async function open(browser, world, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, locale: 'en-GB', timezoneId: 'UTC', acceptDownloads: true, ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(90_000) // a busy machine; a quiet one needs two seconds at most, but for what is slow on purpose
  const log = { requests: [], complaints: [] }
  page.on('request', (request) => log.requests.push(request))
  page.on('pageerror', (error) => log.complaints.push(String(error)))
  page.on('console', (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) log.complaints.push(message.text())
  })
  await page.goto(world.page)
  return { page, context, log }
}

export async function signIn(page, who) {
  await page.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.getByRole('button', { name: who }).click()
}

export const signOut = async (page) => {
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.locator('.hero').waitFor()
}

/** Size of a request's body as it went over the wire, or as the page gave it: the larger. */
export async function bodySize(request) {
  const headers = await request.allHeaders().catch(() => request.headers())
  return Math.max(Number(headers['content-length'] ?? 0), request.postDataBuffer()?.length ?? 0)
}

/** The row of a file in the list. */
export const row = (page, name) => page.locator('table.files tr', { hasText: name })

export const folder = mkdtempSync(join(tmpdir(), 'credential-broker-page-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

/** A file of noise, and its digest. */
export function noise(name, bytes) {
  const path = join(folder, name)
  const data = randomBytes(bytes)
  writeFileSync(path, data)
  return { name, path, bytes, digest: createHash('sha256').update(data).digest('hex') }
}

export async function digestOf(path) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path)) hash.update(chunk)
  return hash.digest('hex')
}

/** Drops files on the page, as a person does. */
export const add = (page, ...files) => page.locator('input.uppy-Dashboard-input').first().setInputFiles(files.map((f) => f.path))

/** Downloads a file by the page's button and returns its digest. */
export async function fetched(page, name) {
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: `Download ${name}` }).click()])
  return digestOf(await download.path())
}

/** Lets the page send no more than so many bytes a second. */
export async function slow(page, bytesPerSecond) {
  const cdp = await page.context().newCDPSession(page)
  await cdp.send('Network.enable')
  await cdp.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: bytesPerSecond })
}

/** Notes every value that the bar shows, from now on. */
export const watchProgress = (page) =>
  page.evaluate(() => {
    window.seen = new Set()
    const look = () => {
      const bar = document.querySelector('.uppy-StatusBar-progress')
      const value = bar?.getAttribute('aria-valuenow')
      if (value) window.seen.add(Number(value))
    }
    new MutationObserver(look).observe(document.body, { subtree: true, childList: true, attributes: true })
  })
export const progress = (page) => page.evaluate(() => [...window.seen])

export async function screenshot(page, name) {
  if (!shots) return
  mkdirSync(shots, { recursive: true })
  await page.screenshot({ path: join(shots, `${name}.png`), fullPage: true })
}
