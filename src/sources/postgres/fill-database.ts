import path from 'node:path';
import { LifeboatError } from '../../errors.ts';
import { listCommand, restoreCommand } from './commands.ts';
import { careFor, listWithout } from './extensions.ts';
import type { DatabaseFacts } from './facts.ts';
import { databaseDirectory } from './quote.ts';
import { listedIds, restorePasses } from './restore-passes.ts';
import type { Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

export interface FillOptions {
  tools: Tools;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  jobs: number;
  stallTimeoutMs: number;
  signal: AbortSignal;
  /** bytes that the database has grown to, about once a second */
  grown(bytes: number): void;
}

/** What {@link fillDatabase} could not bring. */
export interface Filled {
  leftOut: string[];
  warnings: string[];
}

/**
 * Runs `pg_restore` of a recorded database into an empty one, with what its extensions ask for around it.
 *
 * Errors: PG_RESTORE_FAILED, PG_NO_SPACE, PG_STALLED; those of a session.
 */
export async function fillDatabase(options: FillOptions, recorded: DatabaseFacts, name: string): Promise<Filled> {
  const { tools, signal, stallTimeoutMs, tree } = options;
  const care = careFor(recorded, options.jobs);
  const directory = path.posix.join(tree, 'databases', databaseDirectory(recorded.name));
  await withSession(options, name, care.before);
  const only =
    care.leftOut.length > 0
      ? listedIds(listWithout(await tools.run(listCommand(directory), signal), care.leftOut))
      : undefined;
  const lists = await restorePasses(directory, tree, only);
  const grows = async () => {
    const control = await tools.control();
    const { size } = await control.one<{ size: string }>('SELECT pg_database_size($1)::text AS size', [name]);
    options.grown(Number(size));
    return size;
  };
  const pulses = [() => tools.activity(), grows];
  await withWatchdog(
    { timeoutMs: stallTimeoutMs, pulses, signal, what: `the restore of ${recorded.name}` },
    async (watched) => {
      for (const list of lists) {
        await tools.run(restoreCommand(tools.connection, name, directory, care.jobs, list), watched);
      }
    },
  ).catch((error: unknown) => {
    throw restoreError(error, recorded.name, tools.container);
  });
  await withSession(options, name, care.after);
  return { leftOut: care.leftOut.map(({ extension }) => extension), warnings: care.warnings };
}

function restoreError(error: unknown, database: string, container: string): unknown {
  if (error instanceof LifeboatError && error.code !== 'EXEC_FAILED') return error;
  if (error instanceof LifeboatError && /No space left on device/.test(error.message)) {
    return new LifeboatError('PG_NO_SPACE', `${container} ran out of space while ${database} was restored`, {
      cause: error,
      hint: 'Make room first: `lifeboat status` shows what former restores keep. What was half made is removed, and nothing else was changed.',
    });
  }
  return new LifeboatError('PG_RESTORE_FAILED', `pg_restore of ${database} failed`, {
    cause: error,
    hint: 'Nothing was changed. --to-directory DIR gives the dump itself, for pg_restore by hand.',
  });
}

async function withSession(
  { tools, signal }: FillOptions,
  database: string,
  work: (session: Awaited<ReturnType<Tools['session']>>) => Promise<void>,
): Promise<void> {
  const session = await tools.session(database, signal);
  try {
    await work(session);
  } finally {
    await session.close();
  }
}
