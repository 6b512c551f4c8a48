import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [react()],
  server: { host: '127.0.0.1', port: 3000, strictPort: true }, // the origin that the demo's Auth0, broker and bucket know
  build: {
    target: 'es2022',
    assetsInlineLimit: 0, // the page's policy takes scripts and workers from its own origin only
    modulePreload: { polyfill: false },
  },
})
