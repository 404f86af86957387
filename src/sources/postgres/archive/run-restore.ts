import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { hasCode, LifeboatError } from '../../../base/errors.ts';
import { tolerantRestoreCommand } from '../server/commands.ts';
import type { Tools } from '../server/tools.ts';
import { withWatchdog } from '../server/watchdog.ts';
import { type Failure, FailureLog, isConnectionLost, isDiskFull, isWhole, type Said } from './restore-failures.ts';

export interface RunRestoreOptions {
  tools: Tools;
  /** the recorded database, as messages name it */
  about: string;
  /** the database to fill, and the dump directory that fills it */
  database: string;
  directory: string;
  /** directory for the files of `--use-list`, as the agent and the helper both see it */
  lists: string;
  /** directory into which the helper may write, as the agent and the helper both see it */
  scratch: string;
  jobs: number;
  tablespaces: boolean;
  stallTimeoutMs: number;
  signal: AbortSignal;
  /** Resolves to a text that changes while the database grows. */
  grows(): Promise<string>;
}

/** One call of `pg_restore`. */
interface RestoreCall {
  /** file for `--use-list`; absent: everything */
  list?: string;
  settings?: readonly string[];
  jobs?: number;
  stops?: (failures: readonly Failure[]) => boolean;
}

/** The messages are read at this interval while `pg_restore` runs, milliseconds. */
const LOOK_MS = 1000;

/** Messages of several workers are mixed: only a restore with one worker shows what failed. */
export class TangledError extends LifeboatError {
  constructor(about: string, cause: unknown) {
    super('PG_RESTORE_FAILED', `the messages of parallel workers of pg_restore of ${about} are mixed`, {
      cause,
    });
  }
}

/**
 * Runs `pg_restore`, which continues after an error. Resolves to the failures. With `stops`, ends `pg_restore` as soon
 * as `stops` returns true for the failures so far.
 *
 * @throws {@link TangledError} if it is not certain which entries failed; PG_NO_SPACE, PG_STALLED; PG_RESTORE_FAILED
 * for an error that belongs to no entry; the errors of a helper
 */
export async function runRestore(options: RunRestoreOptions, call: RestoreCall): Promise<Failure[]> {
  // The name is random and the file stays open, so a hostile helper cannot replace it.
  const file = path.posix.join(options.scratch, `restore-${randomBytes(8).toString('hex')}.log`);
  const handle = await open(
    file,
    constants.O_RDONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    0o600,
  );
  try {
    return await runLogged(options, call, { file, log: new FailureLog(handle) });
  } finally {
    await handle.close();
  }
}

async function runLogged(
  options: RunRestoreOptions,
  call: RestoreCall,
  { file, log }: { file: string; log: FailureLog },
): Promise<Failure[]> {
  const { tools, about, stallTimeoutMs, signal } = options;
  const stopping = new AbortController();
  // A file that cannot be read now is read at the end. An endless one ends the restore.
  const giveUp = (error: unknown) => {
    if (error instanceof LifeboatError) stopping.abort();
  };
  /** the failures when `stops` returned true; the rest was not tried */
  let enough: Failure[] | undefined;
  const look = async () => {
    const { failures, tangled } = await log.read(signal);
    if (!tangled && call.stops?.(failures)) enough ??= failures;
    if (enough || failures.some(({ words }) => isFatal(words))) stopping.abort();
  };
  const timer = setInterval(() => void look().catch(giveUp), LOOK_MS);
  const pulses = [() => tools.activity(), options.grows];
  const { list, settings, jobs = options.jobs } = call;
  const { connection } = tools;
  const { database, directory, tablespaces } = options;
  const command = tolerantRestoreCommand({
    ...{ connection, database, directory, jobs, tablespaces, log: file },
    ...(list === undefined ? {} : { list }),
    ...(settings === undefined ? {} : { settings }),
  });
  let ended: unknown;
  try {
    await withWatchdog({ timeoutMs: stallTimeoutMs, pulses, signal, what: `the restore of ${about}` }, (watched) =>
      tools.run(command, AbortSignal.any([watched, stopping.signal])),
    );
  } catch (error) {
    ended = error;
  } finally {
    clearInterval(timer);
  }
  // Also waits for a read that is in progress.
  signal.throwIfAborted();
  const said = await log.read(signal);
  signal.throwIfAborted();
  // The exit status decides: a notice of the server may look like an error.
  if (ended === undefined) return [];
  throwUnlessComplete(options, said, ended, enough !== undefined);
  if (enough) return enough;
  if (isWhole(said) || (!said.tangled && call.stops?.(said.failures))) return said.failures;
  if (jobs > 1) throw new TangledError(about, ended);
  throw unexplained(about, said.others[0], ended);
}

function unexplained(about: string, words: string | undefined, cause: unknown): LifeboatError {
  return new LifeboatError('PG_RESTORE_FAILED', `pg_restore of ${about} failed${words ? `: ${words}` : ''}`, {
    cause,
    hint: '--to-directory DIR writes the dump itself, for pg_restore by hand.',
  });
}

function isFatal(words: string): boolean {
  return isDiskFull(words) || isConnectionLost(words);
}

/**
 * Throws unless `pg_restore` completed and only entries failed: it exits with 1 then, and its last line has their
 * number (main in pg_restore.c). A `pg_restore` that was killed or lost a worker did not try all entries.
 */
function throwUnlessComplete(
  { about, tools }: RunRestoreOptions,
  { failures, others, ignored }: Said,
  ended: unknown,
  stopped: boolean,
): void {
  const words = [...failures.map((failure) => failure.words), ...others];
  const full = words.find(isDiskFull);
  if (full !== undefined) {
    throw new LifeboatError('PG_NO_SPACE', `${tools.container} ran out of space while ${about} was restored`, {
      cause: new Error(full),
      hint: 'Free space first: `lifeboat status` shows the data that earlier restores put aside. The incomplete database is dropped.',
    });
  }
  const lost = words.find(isConnectionLost);
  if (lost !== undefined) throw unexplained(about, lost, ended);
  if (stopped) return;
  if (!hasCode(ended, 'EXEC_FAILED')) throw ended;
  const finished = ignored !== undefined && / ended with status 1(?!\d)/.test(ended.message);
  if (!finished) throw unexplained(about, others[0], ended);
}
