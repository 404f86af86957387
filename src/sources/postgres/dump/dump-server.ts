import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { unlessAborted } from '../../../base/abort.ts';
import { errorInfo, hasCode, LifeboatError, toLifeboatError } from '../../../base/errors.ts';
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
import { dumpKnownGlobals, dumpMissingRoles, type KnownGlobals, leaveOutGlobals } from './dump-globals.ts';
import { dumpJobs } from './jobs.ts';
import { findInTemplate } from './left-out.ts';
import { checkSpool, DumpTooLarge, PlainRoom } from './spool-room.ts';

export interface DumpServerOptions {
  tools: Tools;
  server: ServerFacts;
  source: PostgresSource;
  context: CaptureContext;
  databases: readonly DatabaseListing[];
  stallTimeoutMs: number;
  /** compress the dump, however much room the spool has */
  compressed: boolean;
}

/** The dumped databases of a server, and those that could not be dumped. */
interface ServerDump extends Pick<PostgresFacts, 'compression' | 'databases' | 'roles'> {
  missing: MissingDatabase[];
  /** ids of the entries in the tables of contents, by database */
  dumpIds: Map<string, ReadonlySet<number>>;
  /** why the tree has no roles and tablespaces */
  withoutGlobals?: LifeboatError;
  warnings: string[];
}

/** The directory in a tree that has a directory for each database. */
export const DATABASES = 'databases';

/** The largest small database: starting its dump takes longer than dumping its data. 64 MiB. */
const SMALL = 64 * 1024 ** 2;

/**
 * The number of small databases that are dumped at a time. Each dump uses two connections. With the control session,
 * that is the most connections that a run uses.
 */
const SMALL_AT_ONCE = 4;

/**
 * Dumps the globals and the databases of a server into the spool. A database that cannot be dumped is left out of the
 * tree. Neither that nor roles that cannot be dumped affect the other databases.
 *
 * A dump is not compressed if the spool has ample room: its files then have parts in common with those of the last
 * dump, and the store compresses what is new. Otherwise, the dump is compressed with zstd if the server's version
 * supports it, and started again without if its `pg_dump` was built without zstd.
 *
 * @throws DumpTooLarge if an uncompressed dump takes too much room; SPOOL_FULL, and errors of the server as a whole;
 *   the error of the first database if none could be dumped
 */
export async function dumpServer(options: DumpServerOptions): Promise<ServerDump> {
  const { server, context, source, databases } = options;
  if (server.versionNumber < 160000) return dumpAs(options, 'none');
  const room = options.compressed ? undefined : PlainRoom.find(context.spool, databases);
  if (room) {
    return dumpAs(options, 'none', room).catch((error: unknown) => {
      throw hasCode(error, 'SPOOL_FULL') && !(error instanceof DumpTooLarge) ? new DumpTooLarge(error) : error;
    });
  }
  try {
    return await dumpAs(options, 'zstd');
  } catch (error) {
    if (!lacksZstd(error)) throw error;
    context.log.info('this pg_dump does not support zstd; dumping without it', { source: source.name });
    await options.tools.remove(databasesOf(context));
    return dumpAs(options, 'none');
  }
}

function databasesOf(context: CaptureContext): string {
  return path.posix.join(context.spool, DATABASES);
}

/** @param room the room that the dump may take; absent: all that the spool has */
async function dumpAs(options: DumpServerOptions, compression: DumpCompression, room?: PlainRoom): Promise<ServerDump> {
  const { databases, context } = options;
  checkSpool(context.spool, databases, compression);
  const outcomes = await dumpDatabases(options, compression, room);
  const missing: MissingDatabase[] = [];
  const facts: DatabaseFacts[] = [];
  const dumpIds: ServerDump['dumpIds'] = new Map();
  const warnings = [...outcomes.warnings];
  for (const { name } of databases) {
    const outcome = outcomes.dumps.get(name);
    if (outcome instanceof Error) missing.push({ name, error: outcome });
    else if (outcome) {
      facts.push(outcome.facts);
      dumpIds.set(name, outcome.dumpIds);
      warnings.push(...outcome.warnings);
    }
  }
  const [first] = missing;
  if (facts.length === 0 && first) throw first.error;
  const { withoutGlobals } = outcomes;
  const globals = outcomes.globals && (await findLateRoles(options, facts, outcomes.globals));
  warnings.push(...(globals?.warnings.filter((text) => !warnings.includes(text)) ?? []));
  if (!databases.some(({ name }) => name === 'template1'))
    warnings.push(...(await findInTemplate(options.tools, context.signal)));
  return {
    ...{ compression, databases: facts, missing, dumpIds, warnings },
    ...(globals?.facts ? { roles: globals.facts } : {}),
    ...(withoutGlobals ? { withoutGlobals } : {}),
  };
}

/**
 * Compares the roles with the dumped databases. A failure is only a warning, because the first dump of the globals
 * stays and is only slightly older.
 */
async function findLateRoles(
  { tools, context, source, stallTimeoutMs }: DumpServerOptions,
  databases: readonly DatabaseFacts[],
  globals: KnownGlobals,
): Promise<KnownGlobals> {
  const { spool: directory, signal, log } = context;
  try {
    return await dumpMissingRoles({ tools, directory, stallTimeoutMs, signal }, databases, globals);
  } catch (error) {
    if (signal.aborted) throw error;
    log.warn('the roles could not be compared with the databases', { source: source.name, ...errorInfo(error) });
    const warning = `roles that were created during the backup may be missing from globals.sql, because it could not be dumped again: ${toLifeboatError(error).message}`;
    return { ...globals, warnings: [warning] };
  }
}

interface Outcomes {
  /** by name; an error if the database could not be dumped */
  dumps: Map<string, DatabaseDump | Error>;
  /** warnings about the globals */
  warnings: string[];
  withoutGlobals?: LifeboatError;
  /** absent without globals */
  globals?: KnownGlobals;
}

/** Dumps large databases one by one with all workers, then the globals and small databases, several at a time. */
async function dumpDatabases(
  options: DumpServerOptions,
  compression: DumpCompression,
  room?: PlainRoom,
): Promise<Outcomes> {
  const { tools, source, context, databases, stallTimeoutMs } = options;
  const tooLarge = new AbortController();
  const ended = AbortSignal.any([context.signal, tooLarge.signal]);
  const parent = databasesOf(context);
  await mkdir(parent, { mode: 0o700 });
  const dumps: Outcomes['dumps'] = new Map();
  const counting = new CountBudget(stallTimeoutMs);
  const sizes = new Map<string, number>();
  const from = databases.reduce((sum, { size }) => sum + size, 0);
  const dump =
    (name: string, jobs: number): Task =>
    async (signal) => {
      const progress = (bytes: number) => {
        sizes.set(name, bytes);
        const done = [...sizes.values()].reduce((sum, one) => sum + one, 0);
        context.progress({ phase: `dumping ${name}`, done, from });
        if (room?.isUsedUp(done)) tooLarge.abort(new DumpTooLarge());
      };
      progress(0);
      const { excludeTableData } = source;
      const settings = { parent, jobs, compression, excludeTableData, stallTimeoutMs, counting };
      try {
        dumps.set(name, await dumpDatabase({ tools, database: name, ...settings, signal, progress }));
      } catch (error) {
        if (!(await isOfDatabase(options, error, signal))) throw error;
        // Files that stay are removed once the helper is gone: see dump-files.ts.
        await removeDump(tools, path.posix.join(parent, databaseDirectory(name)), error).catch(() => undefined);
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
      outcomes.globals = await dumpKnownGlobals(given);
      outcomes.warnings.push(...outcomes.globals.warnings);
    } catch (error) {
      if (!(await isOfDatabase(options, error, signal))) throw error;
      context.log.warn('the roles could not be dumped', { source: source.name, ...errorInfo(error) });
      await leaveOutGlobals(given);
      outcomes.withoutGlobals = toLifeboatError(error);
    }
  };
  await runPool(large, 1, ended);
  await runPool([globals, ...small], SMALL_AT_ONCE, ended);
  return outcomes;
}

/** Codes of errors that always end the dump of the whole source. */
const SOURCE_ERRORS = new Set(['INTERRUPTED', 'SPOOL_FULL', 'PG_RESTARTED', 'ENGINE_UNREACHABLE', 'INTERNAL']);

/** The most time that the server gets to respond after a failure, milliseconds. */
const CHECK_LIMIT_MS = 15_000;

/**
 * Returns whether a failure concerns a single database: the server still responds, and has not been restarted or
 * replaced.
 */
async function isOfDatabase(
  { tools, server }: DumpServerOptions,
  error: unknown,
  signal: AbortSignal,
): Promise<boolean> {
  if (signal.aborted || !(error instanceof LifeboatError) || SOURCE_ERRORS.has(error.code) || lacksZstd(error))
    return false;
  const check = async () => readServerFacts(await tools.control());
  try {
    const now = await unlessAborted(check(), AbortSignal.any([signal, AbortSignal.timeout(CHECK_LIMIT_MS)]));
    return now.startedAt === server.startedAt && now.systemIdentifier === server.systemIdentifier;
  } catch {
    return false;
  }
}
