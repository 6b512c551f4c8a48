// Uppy's own texts. Its Japanese is of an older version and lacks some; the rest stands here.
import japanese from '@uppy/locales/lib/ja_JP.js'
import type { Language } from '.'

const ja = {
  ...japanese,
  strings: {
    ...japanese.strings,
    dropPasteFiles: 'ここにファイルをドロップするか、%{browseFiles}',
    dropPasteFolders: 'ここにファイルをドロップするか、%{browseFolders}',
    dropPasteBoth: 'ここにファイルをドロップするか、%{browseFiles}または%{browseFolders}',
    addMoreFiles: 'さらに追加するファイルを選ぶ', // must hold what the button shows: addMore
    browseFiles: 'ファイルを選択',
    browseFolders: 'フォルダを選択',
    dashboardTitle: 'アップロード',
  },
}

/** What Uppy is given for a language; an empty set of strings is its own English. */
export const uppyLocale = (language: Language) => (language === 'ja' ? ja : { strings: {} })
