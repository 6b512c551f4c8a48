// Bundles the pages and runs them in Chromium: one JSON line a call on standard input, one an answer on standard output.
// The test gives OUT (folder of the bundles), PAGE (where they are served), CHROMIUM, and S3 (host:port that stands in
// for every bucket of the region, under TLS).
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'

const here = dirname(fileURLToPath(import.meta.url))
const { OUT, PAGE, CHROMIUM, S3, REGION } = process.env

const bundle = (names, nodePaths) =>
  build({
    entryPoints: names.map((name) => join(here, 'page', name)),
    outdir: OUT,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    nodePaths,
    alias: { 'credential-broker-client': join(here, '../../client/client.js') },
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    logLevel: 'error',
  })
const own = join(here, 'node_modules')
const pages = readdirSync(join(here, 'page')).filter((name) => name !== 'kit.js')

await Promise.all([
  bundle(pages.filter((name) => name !== 'uppy5.js'), [own]),
  bundle(['uppy5.js'], [join(here, 'uppy5/node_modules'), own]),
])

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--ignore-certificate-errors', `--host-resolver-rules=MAP *.s3.${REGION}.amazonaws.com ${S3}, MAP s3.${REGION}.amazonaws.com ${S3}`,
  ],
})
const say = (answer) => process.stdout.write(`${JSON.stringify(answer)}\n`)
say({ ready: true })

const run = async (call) => {
  const context = await browser.newContext()
  // The tests have a network without a way out, which Chromium takes for none: Uppy 6 would wait for one.
  await context.addInitScript(() => Object.defineProperty(navigator, 'onLine', { get: () => true }))
  try {
    const page = await context.newPage()
    page.setDefaultTimeout(240_000) // a busy machine
    if (process.env.DEBUG) page.on('console', (m) => console.error(m.text())).on('requestfailed', (r) => console.error(r.method(), r.url(), r.failure().errorText)).on('response', (r) => console.error(new Date().toISOString().slice(14,23), r.status(), r.request().method(), r.url()))
    if (call.renew) await page.clock.install()
    await page.exposeFunction('fastForward', () => page.clock.fastForward(210_000))
    await page.goto(`${PAGE}/${call.page}.html`)
    await page.waitForFunction(() => window.run)
    return await page.evaluate((call) => window.run(call), call)
  } finally {
    await context.close()
  }
}
for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line)
  run(call).then(
    (answer) => say({ id: call.id, ...answer }),
    (error) => say({ id: call.id, ok: false, said: `the page broke: ${error.message}` }),
  )
}
await browser.close()
