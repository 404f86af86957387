import type { FileHandle } from 'node:fs/promises';
import { StringDecoder } from 'node:string_decoder';
import { LifeboatError } from '../../../base/errors.ts';
import type { SkippedObject } from '../../../report/events.ts';
import { NO_SPACE, withoutContent } from '../server/messages.ts';
import type { ArchiveEntry } from './archive.ts';

/** An entry of a dump that `pg_restore` could not restore. */
export interface Failure {
  dumpId: number;
  /** the server's message, without the content of rows */
  words: string;
}

/** The errors that `pg_restore` reported. */
export interface Said {
  failures: Failure[];
  /** errors that belong to no entry, for example a failed connection or a dead worker */
  others: string[];
  /** the number of errors in its last line; absent if that line is missing */
  ignored?: number;
  /** the number of errors that its last line should have, by the messages that were read */
  counted: number;
  /** messages of several workers are mixed, so an error may be lost or belong to another entry */
  tangled: boolean;
}

/** True if every error was read and assigned to its entry. */
export function isWhole({ ignored, counted, others, tangled }: Said): boolean {
  return ignored === counted && others.length === 0 && !tangled;
}

/** Size of a read, and the longest line, bytes. */
const READ_SIZE = 64 * 1024;

/** The most lines of a message besides its hint, and the most characters of a line. A statement may have thousands. */
const LINES_LIMIT = 4;
const LINE_LIMIT = 2000;

/** The largest log, bytes, and the most failures in it: the helper that writes the log may be hostile. */
const LOG_LIMIT = 256 * 1024 * 1024;
const FAILURES_LIMIT = 20_000;

/**
 * The messages of `pg_restore --verbose` in a growing file (warn_or_exit_horribly in pg_backup_archiver.c). The line
 * `from TOC entry 3335; …` names the entry, and its error follows. Of several errors of an entry, the first one counts.
 */
export class FailureLog {
  private readonly file: FileHandle;
  private readonly buffer = Buffer.alloc(READ_SIZE);
  private readonly parser = createParser();
  private readonly decoder = new StringDecoder('utf8');
  private offset = 0;
  private rest = '';
  private reading: Promise<Said> | undefined;

  /** @param file open for reading; the caller closes it */
  constructor(file: FileHandle) {
    this.file = file;
  }

  /**
   * Reads up to the present end of the file. Resolves to all errors so far.
   *
   * @throws PG_RESTORE_FAILED for a log that is too large or has too many failures; the signal's reason
   */
  read(signal?: AbortSignal): Promise<Said> {
    const next = (this.reading ?? Promise.resolve()).then(() => this.readOn(signal));
    this.reading = next.catch(() => this.parser.said());
    return next;
  }

  private async readOn(signal: AbortSignal | undefined): Promise<Said> {
    // A writer that never stops must not keep a look from ending.
    const { size } = await this.file.stat();
    if (size > LOG_LIMIT || this.parser.isFull()) throw endless();
    while (this.offset < size) {
      signal?.throwIfAborted();
      const length = Math.min(READ_SIZE, size - this.offset);
      const { bytesRead } = await this.file.read(this.buffer, 0, length, this.offset);
      if (bytesRead === 0) break;
      this.offset += bytesRead;
      const lines = (this.rest + this.decoder.write(this.buffer.subarray(0, bytesRead))).split('\n');
      // A hostile helper may write a line without end.
      this.rest = (lines.pop() as string).slice(-READ_SIZE);
      for (const line of lines) this.parser.add(line);
      if (this.parser.isFull()) throw endless();
    }
    return this.parser.said();
  }
}

function endless(): LifeboatError {
  return new LifeboatError(
    'PG_RESTORE_FAILED',
    `pg_restore wrote more than ${LOG_LIMIT / 1024 / 1024} MiB of messages, or reported more than ${FAILURES_LIMIT} failures`,
    { hint: '--to-directory DIR writes the dump itself, for pg_restore by hand.' },
  );
}

/** Reads the errors from a text. */
export function parseFailures(text: string): Said {
  const parser = createParser();
  for (const line of text.split('\n')) parser.add(line);
  return parser.said();
}

function createParser() {
  const found = new Map<number, string[]>();
  const others: string[][] = [];
  let current: number | undefined;
  /** lines of the current message */
  let message: string[] | undefined;
  let ignored: number | undefined;
  let errors = 0;
  let tangled = false;
  /** the current entry has no error yet */
  let waiting = false;
  /** entries that a parallel worker restores */
  const launched = new Set<number>();
  return {
    isFull: () => found.size + others.length > FAILURES_LIMIT,
    add(whole: string): void {
      const line = whole.slice(0, LINE_LIMIT);
      const entry = /from TOC entry (\d+);/.exec(line)?.[1];
      const closing = /^pg_restore: warning: errors ignored on restore: (\d+)$/.exec(line)?.[1];
      if (closing !== undefined) ignored = Number(closing);
      const item = /^pg_restore: launching item (\d+) /.exec(line)?.[1];
      if (item !== undefined) launched.add(Number(item));
      if (/pg_restore:.*pg_restore:/.test(line)) tangled = true;
      const error = /^\S*pg_restore: error: (.*)$/.exec(line)?.[1];
      if (entry !== undefined) {
        if (waiting) tangled = true;
        waiting = true;
        current = Number(entry);
        message = undefined;
      } else if (error !== undefined) {
        errors++;
        message = [error];
        if (current === undefined || isWorkerLost(error)) others.push(message);
        else if (!found.has(current)) found.set(current, message);
        waiting = false;
      } else if (/^pg_restore: /.test(line)) {
        message = undefined;
      } else if (message !== undefined && (message.length < LINES_LIMIT || isHint(line, message))) {
        message.push(line);
      }
    },
    said: (): Said => ({
      failures: [...found].map(([dumpId, lines]) => ({ dumpId, words: serverWords(lines) })),
      others: others.map(serverWords),
      ...(ignored === undefined ? {} : { ignored }),
      // pg_restore counts an entry that fails in a worker twice (parseWorkerResponse and mark_restore_job_done).
      counted: errors + [...found.keys()].filter((id) => launched.has(id)).length,
      tangled: tangled || waiting,
    }),
  };
}

function isHint(line: string, before: readonly string[]): boolean {
  return line.startsWith('HINT:') && !before.some((one) => one.startsWith('HINT:'));
}

/** Extracts the server's message, with its hint if there is one: `relation "limits" does not exist`. */
function serverWords(lines: readonly string[]): string {
  const [first = '', ...rest] = withoutContent(lines.join('\n')).split('\n');
  const bare = first
    .replace(/^could not execute query: /, '')
    .replace(/^COPY failed for table "(?:[^"]|"")*": /, '')
    // The severity in any language: `ERROR:  `.
    .replace(/^\p{L}+: {2}/u, '')
    .trim();
  const hint = rest
    .find((line) => line.startsWith('HINT:'))
    ?.slice('HINT:'.length)
    .trim();
  return hint === undefined ? bare : `${bare} (${hint})`;
}

/** True if the server's disk is full: everything else fails for the same reason. */
export function isDiskFull(words: string): boolean {
  return NO_SPACE.test(words) && !isSharedMemory(words);
}

/** True if a parallel worker had no space in /dev/shm, which has 64 MiB in a container by default. */
export function isSharedMemory(words: string): boolean {
  return /could not (?:resize|open|create|map) shared memory segment/.test(words);
}

/** True if a worker of `pg_restore` died (mark_restore_job_done and parallel.c). */
function isWorkerLost(words: string): boolean {
  return /^(?:a )?worker process (?:died|failed)/.test(words);
}

/** True if the connection was lost. Later failures say nothing about their objects. */
export function isConnectionLost(words: string): boolean {
  return /server closed the connection|no connection to the server|terminating connection|could not (?:send|receive) data|connection to server .* failed|the database system is/.test(
    words,
  );
}

/** Returns the hint for objects that the server refused, chosen by its messages. */
export function refusedHint(failures: readonly Failure[]): string {
  return failures.some(({ words }) => isSharedMemory(words))
    ? 'The container has too little shared memory: set `shm_size: 1gb` for its service in the Compose file.'
    : '--skip-failed restores everything else and lists what it leaves out. --table restores single tables into the present database, unless they need one of these objects.';
}

/** The most characters of a statement in a report. */
const STATEMENT_LIMIT = 300;

/** Kinds whose statements hold credentials, and are never shown. */
const SECRET_KINDS = ['SUBSCRIPTION', 'USER MAPPING', 'SERVER', 'FOREIGN DATA WRAPPER'];

/** Describes a failed entry: its kind, name and statement, and the server's message. */
export function describeFailure(database: string, entry: ArchiveEntry, words: string): SkippedObject {
  const statement = shownStatement(entry);
  return {
    database,
    kind: entry.kind === 'TABLE DATA' ? 'rows' : entry.kind.toLowerCase(),
    name: entry.schema === '' ? entry.tag : `${entry.schema}.${entry.tag}`,
    ...(statement === undefined ? {} : { statement }),
    message: words,
  };
}

function shownStatement({ kind, definition }: ArchiveEntry): string | undefined {
  if (kind === 'TABLE DATA' || SECRET_KINDS.includes(kind)) return undefined;
  const text = definition
    .replace(/^--.*$/gm, '')
    .replaceAll(/\b(password|passwd|secret|token)\b(\s*=>?\s*|\s+)('(?:[^']|'')*'|[^\s',)]+)/gi, '$1$2…')
    .replaceAll(/\s+/g, ' ')
    .trim();
  if (text === '') return undefined;
  return text.length > STATEMENT_LIMIT ? `${text.slice(0, STATEMENT_LIMIT)}…` : text;
}

/**
 * Formats a failed object:
 * `fk constraint public.child child_p_fkey: insert or update … (ALTER TABLE ONLY public.child …)`.
 */
export function failureText({ kind, name, statement, message }: SkippedObject): string {
  return `${kind} ${name}: ${message}${statement === undefined ? '' : ` (${statement})`}`;
}
