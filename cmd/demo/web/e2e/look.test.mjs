// How it looks and whether everybody can use it: axe-core on every state, at a phone's and at a desk's width, light and
// dark; screenshots of each, for people to look at.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, test } from 'node:test'
import { launch, open, row, screenshot, signIn, story } from './kit.mjs'

let browser
before(async () => void (browser = await launch()))
after(() => browser.close())

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Serious and critical findings. Uppy’s own markup counts too. */
async function check(page, name) {
  await page.evaluate(axe) // through the debugger: the page's policy lets no other script in
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
  const serious = violations.filter((v) => v.impact === 'serious' || v.impact === 'critical')
  assert.deepEqual(serious.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html.slice(0, 160)} ${n.any[0]?.message ?? ''}`).join(' | ')}`), [], name)
  const [wide, view] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth])
  assert.ok(wide <= view, `${name} is ${wide} pixels wide in a window of ${view}`)
}

// :: width, colours, language
const looks = [
  [390, 'light', 'en'],
  [390, 'dark', 'ja'],
  [1280, 'light', 'ja'],
  [1280, 'dark', 'en'],
]

/** One page, seen in every way. */
async function everyLook(page, state) {
  for (const [width, colorScheme, language] of looks) {
    await page.setViewportSize({ width, height: 844 })
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' })
    await page.locator(`.segments button[lang=${language}]`).click()
    const name = `${state}-${width}-${colorScheme}-${language}`
    assert.equal(await page.evaluate(() => document.documentElement.lang), language)
    await check(page, name)
    await screenshot(page, name)
  }
}

test('axe finds nothing serious before sign-in', async () => {
  const { page, log } = await open(browser, story)
  await page.locator('.hero').waitFor()
  await everyLook(page, 'landing')
  assert.deepEqual(log.complaints, [])
})

test('axe finds nothing serious on the whole page, every answer shown', async () => {
  const { page, log } = await open(browser, story)
  await signIn(page, 'Alice')
  await row(page, 'welcome.txt').waitFor()
  await page.locator('input.uppy-Dashboard-input').first().setInputFiles({ name: 'look.txt', mimeType: 'text/plain', buffer: Buffer.from('x') })
  await row(page, 'look.txt').waitFor()
  await page.getByRole('button', { name: 'Try all four' }).click()
  await page.locator('[data-testid=attempt-sts][data-verdict=refused]').waitFor()
  await page.getByRole('button', { name: 'Ask for all buckets' }).click()
  await page.locator('.buckets-answer .answer').waitFor()
  await everyLook(page, 'signed-in')
  await page.getByRole('button', { name: 'Delete look.txt' }).click()
  await page.getByRole('dialog').waitFor()
  await check(page, 'delete')
  assert.deepEqual(log.complaints, [])
})

test('axe finds nothing serious where somebody has no access', async () => {
  const { page } = await open(browser, story)
  await signIn(page, 'Mallory')
  await page.locator('.denied').waitFor()
  await everyLook(page, 'denied')
})

test('everything is reached and used with the keyboard alone', async () => {
  const { page } = await open(browser, story)
  await page.locator('.hero').waitFor()
  const focused = () => page.evaluate(() => document.activeElement?.textContent?.trim() || document.activeElement?.tagName)
  const tabTo = async (text) => {
    for (let i = 0; i < 60; i++) {
      await page.keyboard.press('Tab')
      if ((await focused()) === text) return
    }
    assert.fail(`Tab never came to ${text}`)
  }
  await page.keyboard.press('Tab')
  assert.equal(await focused(), 'Skip to the content')
  await tabTo('Sign in')
  await page.keyboard.press('Enter')
  await page.getByRole('button', { name: 'Alice' }).press('Enter')
  await row(page, 'welcome.txt').waitFor()
  await page.locator('#content').focus()
  await tabTo('plans')
  await page.keyboard.press('Enter')
  await row(page, '2027.txt').waitFor()
  await tabTo('Delete')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog').waitFor()
  await page.keyboard.press('Escape')
  assert.equal(await focused(), 'Delete', 'the focus is lost after the dialog')
})
