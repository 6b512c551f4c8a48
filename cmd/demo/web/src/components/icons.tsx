// Drawn here: nothing is fetched from elsewhere.
const props = { width: 18, height: 18, viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', strokeWidth: 1.8, strokeLinejoin: 'round', strokeLinecap: 'round', 'aria-hidden': true, className: 'icon' } as const

export const FolderIcon = () => <svg {...props}><path d="M3 6.5A1.5 1.5 0 0 1 4.5 5H9l2 2.5h8.5A1.5 1.5 0 0 1 21 9v8.5a1.5 1.5 0 0 1-1.5 1.5h-15A1.5 1.5 0 0 1 3 17.5z" /></svg>
export const FileIcon = () => <svg {...props}><path d="M6 3h8l4 4v14H6zM14 3v4h4" /></svg>
export const ShieldIcon = () => <svg {...props}><path d="M12 3l7 3v5c0 4.6-2.9 8.3-7 10-4.1-1.7-7-5.4-7-10V6zM8.8 12l2.2 2.2 4.2-4.4" /></svg>
export const HoleIcon = () => <svg {...props}><path d="M12 3l9.5 17h-19zM12 10v4.5M12 17.4v.1" /></svg>
