// Light or dark: as the system has it, until somebody chooses.
import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from 'react'

export type Theme = 'auto' | 'light' | 'dark'
const key = 'theme' // in localStorage: a preference, no token
const system = window.matchMedia('(prefers-color-scheme: dark)')

const chosen = (): Theme => {
  const kept = localStorage.getItem(key)
  return kept === 'light' || kept === 'dark' ? kept : 'auto'
}

const ThemeContext = createContext<{ theme: Theme; shown: 'light' | 'dark'; choose: (theme: Theme) => void }>({ theme: 'auto', shown: 'light', choose: () => {} })

export function ThemeProvider({ children }: { children: ReactNode }) {
  const [theme, setTheme] = useState(chosen)
  const [dark, setDark] = useState(system.matches)
  useEffect(() => {
    const follow = () => setDark(system.matches)
    system.addEventListener('change', follow)
    return () => system.removeEventListener('change', follow)
  }, [])
  const shown = theme === 'auto' ? (dark ? 'dark' : 'light') : theme
  useEffect(() => {
    document.documentElement.dataset.theme = shown
  }, [shown])
  const value = useMemo(
    () => ({
      theme,
      shown: shown as 'light' | 'dark',
      choose: (next: Theme) => {
        if (next === 'auto') localStorage.removeItem(key)
        else localStorage.setItem(key, next)
        setTheme(next)
      },
    }),
    [theme, shown],
  )
  return <ThemeContext value={value}>{children}</ThemeContext>
}

export const useTheme = () => useContext(ThemeContext)
