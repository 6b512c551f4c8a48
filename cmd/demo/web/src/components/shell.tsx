import type { ReactNode } from 'react'
import { useLanguage } from '../i18n'
import { useTheme, type Theme } from '../theme'

/** What stands around everything: the name, the language, the colours, who is here. */
export function Shell({ who, onSignOut, children }: { who?: string; onSignOut?: () => void; children: ReactNode }) {
  const { t, language, choose } = useLanguage()
  const { theme, choose: chooseTheme } = useTheme()
  return (
    <>
      <a className="skip" href="#content">{t.skip}</a>
      <header className="top">
        <div className="top-inner">
          <span className="brand">
            <img src="/icon.svg" alt="" width="28" height="28" />
            {t.title}
          </span>
          <div className="top-tools">
            <label className="select">
              <span className="hidden">{t.theme}</span>
              <select value={theme} onChange={(e) => chooseTheme(e.target.value as Theme)}>
                {(['auto', 'light', 'dark'] as const).map((name) => <option key={name} value={name}>{t.themes[name]}</option>)}
              </select>
            </label>
            <div className="segments" role="group" aria-label={t.language}>
              <button type="button" lang="en" aria-pressed={language === 'en'} onClick={() => choose('en')}>English</button>
              <button type="button" lang="ja" aria-pressed={language === 'ja'} onClick={() => choose('ja')}>日本語</button>
            </div>
            {onSignOut && (
              <>
                <span className="top-who">{who}</span>
                <button type="button" className="button quiet" onClick={onSignOut}>{t.signOut}</button>
              </>
            )}
          </div>
        </div>
      </header>
      <main id="content" tabIndex={-1}>{children}</main>
      <footer className="bottom">{t.footer}</footer>
    </>
  )
}
