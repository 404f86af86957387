import { mkdir, statfs } from 'node:fs/promises';
import path from 'node:path';
import { unlessAborted } from '../../../base/abort.ts';
import { errorInfo, LifeboatError, toLifeboatError } from '../../../base/errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import type { CaptureContext } from '../../source.ts';
import { CountBudget } from '../facts/count-budget.ts';
import type { DatabaseListing, MissingDatabase } from '../facts/databases.ts';
import { type DatabaseFacts, type PostgresFacts, readServerFacts, type ServerFacts } from '../facts/facts.ts';
import type { DumpCompression } from '../server/commands.ts';
import { runPool, type Task } from '../server/pool.ts';
import { databaseDirectory } from '../server/quote.ts';
import type { Tools } from '../server/tools.ts';
import { dumpDatabase, removeDump } from './dump.ts';
import type { DatabaseDump } from './dump-counts.ts';
import { lacksZstd } from './dump-errors.ts';
import { dumpKnownGlobals, dumpMissingRoles, leaveOutGlobals } from './dump-globals.ts';
import { dumpJobs } from './jobs.ts';

export interface DumpServerOptions {
  tools: Tools;
  server: ServerFacts;
  source: PostgresSource;
  context: CaptureContext;
  databases: readonly DatabaseListing[];
  stallTimeoutMs: number;
}

/** The databases of a server that were dumped, and those that could not be. */
interface ServerDump extends Pick<PostgresFacts, 'compression' | 'databases'> {
  missing: MissingDatabase[];
  /** why the tree has no roles and tablespaces */
  withoutGlobals?: LifeboatError;
  warnings: string[];
}

/** A database up to this size is small: starting its dump takes longer than its data. 64 MiB. */
const SMALL = 64 * 1024 ** 2;

/**
 * Small databases are dumped so many at a time, each over two connections of ours. With the one that watches over the
 * run, that is the most connections a run ever has.
 */
const SMALL_AT_ONCE = 4;

/**
 * Share of a database's size that a zstd dump may need in the spool. Measured dumps are at 10–35 % (indexes are not
 * dumped); data that does not compress is caught when the disk is full.
 */
const ZSTD_SHARE = 0.5;

/**
 * Dumps the globals and the databases of a server into the spool: with zstd where the server's version has it, and once more
 * without when its `pg_dump` turns out to be built without. A database that cannot be dumped is left out of the tree, and
 * keeps none of the others from being dumped; nor do roles that cannot be dumped.
 *
 * Errors: SPOOL_FULL, and whatever concerns the server as a whole; of the first database when none could be dumped.
 */
export async function dumpServer(options: DumpServerOptions): Promise<ServerDump> {
  const { server, context, source } = options;
  if (server.versionNumber < 160000) return dumpAs(options, 'none');
  try {
    return await dumpAs(options, 'zstd');
  } catch (error) {
    if (!lacksZstd(error)) throw error;
    context.log.info('this pg_dump has no zstd; dumping without', { source: source.name });
    await options.tools.remove(databasesOf(context));
    return dumpAs(options, 'none');
  }
}

function databasesOf(context: CaptureContext): string {
  return path.posix.join(context.spool, 'databases');
}

async function dumpAs(options: DumpServerOptions, compression: DumpCompression): Promise<ServerDump> {
  const { databases, context } = options;
  await checkSpool(context.spool, databases, compression);
  const outcomes = await dumpDatabases(options, compression);
  const missing: MissingDatabase[] = [];
  const facts: DatabaseFacts[] = [];
  const warnings = [...outcomes.warnings];
  for (const { name } of databases) {
    const outcome = outcomes.dumps.get(name);
    if (outcome instanceof Error) missing.push({ name, error: outcome });
    else if (outcome) {
      facts.push(outcome.facts);
      warnings.push(...outcome.warnings);
    }
  }
  const [first] = missing;
  if (facts.length === 0 && first) throw first.error;
  const { withoutGlobals } = outcomes;
  const late = outcomes.roles ? await findLateRoles(options, facts, outcomes.roles) : [];
  warnings.push(...late.filter((text) => !warnings.includes(text)));
  return { compression, databases: facts, missing, warnings, ...(withoutGlobals ? { withoutGlobals } : {}) };
}

/** Never fails the run: without the second look, the globals are as of a moment before. */
async function findLateRoles(
  { tools, context, source, stallTimeoutMs }: DumpServerOptions,
  databases: readonly DatabaseFacts[],
  roles: ReadonlySet<string>,
): Promise<string[]> {
  const { spool: directory, signal, log } = context;
  try {
    return await dumpMissingRoles({ tools, directory, stallTimeoutMs, signal }, databases, roles);
  } catch (error) {
    if (signal.aborted) throw error;
    log.warn('the roles could not be compared with the databases', { source: source.name, ...errorInfo(error) });
    return [];
  }
}

interface Outcomes {
  /** by name; an error: this database could not be dumped, and others may have been */
  dumps: Map<string, DatabaseDump | Error>;
  /** of the globals */
  warnings: string[];
  withoutGlobals?: LifeboatError;
  /** those that the globals have; absent without globals */
  roles?: ReadonlySet<string>;
}

/** Large databases one after the other with all workers, then globals and small ones several at a time. */
async function dumpDatabases(options: DumpServerOptions, compression: DumpCompression): Promise<Outcomes> {
  const { tools, source, context, databases, stallTimeoutMs } = options;
  const parent = databasesOf(context);
  await mkdir(parent, { mode: 0o700 });
  const dumps: Outcomes['dumps'] = new Map();
  const counting = new CountBudget(stallTimeoutMs);
  const sizes = new Map<string, number>();
  const dump =
    (name: string, jobs: number): Task =>
    async (signal) => {
      const progress = (bytes: number) => {
        sizes.set(name, bytes);
        const done = [...sizes.values()].reduce((sum, one) => sum + one, 0);
        context.progress({ phase: `dumping ${name}`, done });
      };
      const { excludeTableData } = source;
      const settings = { parent, jobs, compression, excludeTableData, stallTimeoutMs, counting };
      try {
        dumps.set(name, await dumpDatabase({ tools, database: name, ...settings, signal, progress }));
      } catch (error) {
        if (!(await isOfDatabase(options, error, signal))) throw error;
        await removeDump(tools, path.posix.join(parent, databaseDirectory(name)), error);
        context.log.warn('a database could not be dumped', {
          source: source.name,
          database: name,
          ...errorInfo(error),
        });
        dumps.set(name, toLifeboatError(error));
      }
    };
  const large = databases.filter(({ size }) => size > SMALL).map(({ name }) => dump(name, dumpJobs()));
  const small = databases.filter(({ size }) => size <= SMALL).map(({ name }) => dump(name, 1));
  const outcomes: Outcomes = { dumps, warnings: [] };
  const globals: Task = async (signal) => {
    const given = { tools, directory: context.spool, stallTimeoutMs, signal };
    try {
      const { warnings, roles } = await dumpKnownGlobals(given);
      outcomes.warnings.push(...warnings);
      outcomes.roles = roles;
    } catch (error) {
      if (!(await isOfDatabase(options, error, signal))) throw error;
      context.log.warn('the roles could not be dumped', { source: source.name, ...errorInfo(error) });
      await leaveOutGlobals(given);
      outcomes.withoutGlobals = toLifeboatError(error);
    }
  };
  await runPool(large, 1, context.signal);
  await runPool([globals, ...small], SMALL_AT_ONCE, context.signal);
  return outcomes;
}

/** What ends the run of the whole source, whatever the server says. */
const OF_SOURCE = new Set(['INTERRUPTED', 'SPOOL_FULL', 'PG_RESTARTED', 'ENGINE_UNREACHABLE', 'INTERNAL']);

/** How long the server may take to show that it is there, milliseconds. */
const LOOK_LIMIT_MS = 15_000;

/** Whether a failure is of one database alone: the server still answers, and is the one that the run began with. */
async function isOfDatabase(
  { tools, server }: DumpServerOptions,
  error: unknown,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted || !(error instanceof LifeboatError) || OF_SOURCE.has(error.code) || lacksZstd(error))
    return false;
  const look = async () => readServerFacts(await tools.control());
  try {
    const now = await unlessAborted(look(), AbortSignal.any([signal, AbortSignal.timeout(LOOK_LIMIT_MS)]));
    return now.startedAt === server.startedAt && now.systemIdentifier === server.systemIdentifier;
  } catch {
    return false;
  }
}

async function checkSpool(
  spool: string,
  databases: readonly DatabaseListing[],
  compression: DumpCompression,
): Promise<void> {
  const { bavail, bsize } = await statfs(spool);
  const size = databases.reduce((sum, database) => sum + database.size, 0);
  const need = size * (compression === 'zstd' ? ZSTD_SHARE : 1);
  if (bavail * bsize >= need) return;
  const mib = (bytes: number) => `${Math.round(bytes / 1024 ** 2)} MiB`;
  throw new LifeboatError('SPOOL_FULL', `the spool has ${mib(bavail * bsize)} free, the dump may need ${mib(need)}`, {
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}
