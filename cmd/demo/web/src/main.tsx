import './styles/base.css'
import './styles/parts.css'
import { createRoot } from 'react-dom/client'
import { App } from './app'
import { startAuth } from './auth'
import { Problem } from './components/notice'
import { Shell } from './components/shell'
import { loadConfig } from './config'
import { LanguageProvider, useTexts } from './i18n'
import { startMeter } from './meter'
import { ThemeProvider } from './theme'

function Loading() {
  return <p className="loading">{useTexts().loading}</p>
}

function Failed({ error }: { error: unknown }) {
  const t = useTexts()
  return (
    <Problem title={t.problems.start} help={t.problems.startHelp} detail={String(error)} action={{ label: t.retry, run: () => window.location.reload() }} />
  )
}

const root = createRoot(document.getElementById('root')!)
const show = (content: React.ReactNode) =>
  root.render(
    <ThemeProvider>
      <LanguageProvider>{content}</LanguageProvider>
    </ThemeProvider>,
  )

show(<Shell><Loading /></Shell>)
try {
  const config = await loadConfig()
  startMeter(config)
  const auth = await startAuth(config)
  show(<App config={config} auth={auth} />)
} catch (error) {
  show(<Shell><Failed error={error} /></Shell>)
}
