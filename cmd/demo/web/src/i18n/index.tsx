// The page's language: the browser's, until somebody chooses.
import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from 'react'
import { en, type Texts } from './en'
import { ja } from './ja'

export type { Texts } from './en'
export type Language = 'en' | 'ja'
const texts: Record<Language, Texts> = { en, ja }
const key = 'language' // in localStorage: a preference, no token

const chosen = (): Language => {
  const kept = localStorage.getItem(key)
  if (kept === 'en' || kept === 'ja') return kept
  return navigator.language.startsWith('ja') ? 'ja' : 'en'
}

interface Context {
  t: Texts
  language: Language
  choose: (language: Language) => void
}
const LanguageContext = createContext<Context>({ t: en, language: 'en', choose: () => {} })

export function LanguageProvider({ children }: { children: ReactNode }) {
  const [language, setLanguage] = useState(chosen)
  useEffect(() => {
    document.documentElement.lang = language
    document.title = texts[language].title
  }, [language])
  const value = useMemo(
    () => ({
      t: texts[language],
      language,
      choose: (next: Language) => {
        localStorage.setItem(key, next)
        setLanguage(next)
      },
    }),
    [language],
  )
  return <LanguageContext value={value}>{children}</LanguageContext>
}

export const useLanguage = () => useContext(LanguageContext)
export const useTexts = () => useContext(LanguageContext).t
