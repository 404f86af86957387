import { oneLine } from './format.ts';

/** The options of a command that choose the repository to read, and what to accept there. */
export interface ReadingOptions {
  /** as given with `--from`; absent: the agent's own repository */
  from?: string;
  /** as given with `--project` */
  project?: string;
  /** as given with `--into-project` */
  intoProject?: string;
  /** accept an unsigned snapshot although a signing key is set */
  unsigned?: boolean;
}

/** Returns the command that restores a source from the same repository, as a person types it. */
export function restoreCommand(reading: ReadingOptions, snapshot: string, source: string, options = ''): string {
  return `lifeboat restore ${snapshot} ${source}${options && ` ${options}`}${readingOptions(reading)}`;
}

function readingOptions({ from, project, intoProject, unsigned = false }: ReadingOptions): string {
  const place = from === undefined ? '' : ` --from ${shellWord(from)}`;
  const into = intoProject === undefined ? '' : ` --into-project ${shellWord(intoProject)}`;
  return `${place}${into}${from === undefined || project === undefined ? '' : ` --project ${shellWord(project)}`}${unsigned ? ' --unsigned' : ''}`;
}

/** Quotes a name so that a person can paste it into a shell. */
export function shellWord(name: string): string {
  return /^[\w.,:/=@-]+$/.test(name) && !name.startsWith('-') ? name : `'${name.replaceAll("'", "'\\''")}'`;
}

/**
 * Returns a statement of pg_dump in one line without changing what it means: blanks between words become one, and
 * characters of names that one line or backticks cannot hold become `U&"…"` (PostgreSQL docs, 4.1.1 Identifiers and Key
 * Words). Undefined if a string in it cannot be in one line.
 */
export function oneLineStatement(sql: string): string | undefined {
  const parts = sql.split(/("(?:[^"]|"")*")/);
  const isName = (i: number) => i % 2 === 1;
  if (parts.some((part, i) => !isName(i) && /['$]/.test(part))) return isOneLine(sql) ? sql : undefined;
  const line = parts.map((part, i) => (isName(i) ? nameInLine(part) : part.replace(/\s+/g, ' '))).join('');
  return isOneLine(line) ? line : undefined;
}

function isOneLine(text: string): boolean {
  return oneLine(text) === text && !text.includes('`');
}

function nameInLine(quoted: string): string {
  if (isOneLine(quoted)) return quoted;
  const name = quoted.slice(1, -1).replaceAll('""', '"');
  const escaped = [...name].map((char) => {
    if (/[\p{L}\p{N}_.-]/u.test(char)) return char;
    return `\\+${(char.codePointAt(0) ?? 0).toString(16).padStart(6, '0')}`;
  });
  return `U&"${escaped.join('')}"`;
}
