import { oneLine } from '../format.ts';

/**
 * Returns a text of others as plain text in Markdown: nothing in it is markup, a link or HTML, and it does not end a
 * cell of a table. GitHub turns addresses into links, so they are broken up.
 */
export function plain(text: string): string {
  return oneLine(text)
    .replace(/[\\`*_[\]<>|~&$]/g, '\\$&')
    .replace(/:\/\/|(?<=\bwww)\./gi, '\\$&')
    .replace(/^(?=[#+\-=])/, '\\')
    .replace(/^(\d+)(?=[.)]\s)/, '$1\\');
}

/** Returns a row of a table in Markdown. The cells are texts of others. */
export function row(cells: readonly string[]): string {
  return `| ${cells.map(plain).join(' | ')} |`;
}

/** Returns the head of a table in Markdown. */
export function head(columns: readonly string[]): string[] {
  return [row(columns), `|${'---|'.repeat(columns.length)}`];
}

/** Returns a time that is right whenever the report is read: `2026-11-19 12:00 UTC`. */
export function utc(iso: string): string {
  return `${iso.slice(0, 16).replace('T', ' ')} UTC`;
}
