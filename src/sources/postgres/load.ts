import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../errors.ts';
import { restoreCommand } from './commands.ts';
import { countRows, type DatabaseFacts, type PostgresFacts, type TableFacts } from './facts.ts';
import { type GlobalsResult, loadGlobals } from './globals.ts';
import { databaseDirectory, quoteIdentifier, quoteLiteral } from './quote.ts';
import type { Session } from './session.ts';
import type { Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

export interface LoadDatabaseOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** the recorded database */
  database: string;
  /** name to restore under; it must not exist */
  target: string;
  /** the fetched tree, as the agent and the helper both see it */
  tree: string;
  /** suffix for the working name, from the run: `4f1c9a` */
  id: string;
  jobs: number;
  /** create roles that are missing */
  globals: boolean;
  stallTimeoutMs: number;
  signal: AbortSignal;
  step(text: string): void;
}

export interface LoadedDatabase {
  target: string;
  tables: number;
  /** rows compared and found equal */
  rows: number;
  globals?: GlobalsResult;
  warnings: string[];
}

/** Longest name that Postgres keeps whole, bytes (NAMEDATALEN - 1). */
const NAME_LIMIT = 63;

/**
 * Restores one database of a dump tree under a new name. It is built as `<target>__restoring_<id>`, compared with what was
 * recorded, and renamed last: under `target` there is never half a database. On failure the working database is dropped.
 *
 * Errors: PG_TARGET_EXISTS, PG_VERSION, PG_DATABASE_UNKNOWN before anything is made; PG_RESTORE_FAILED after.
 */
export async function loadDatabase(options: LoadDatabaseOptions): Promise<LoadedDatabase> {
  const { tools, target, facts, signal } = options;
  const recorded = recordedDatabase(facts, options.database);
  const control = await tools.control(target);
  const before = await checkTarget(tools, control, target, signal);
  const result: LoadedDatabase = { target, tables: recorded.tables.length, rows: 0, warnings: [] };
  if (options.globals) {
    options.step('creating missing roles');
    result.globals = await loadGlobals(control, await readFile(path.posix.join(options.tree, 'globals.sql'), 'utf8'));
    result.warnings.push(...result.globals.warnings);
  }
  await checkRoles(control, recorded);

  const working = workingName(target, 'restoring', options.id);
  options.step(`restoring ${recorded.name} beside, as ${working}`);
  await control.run(createDatabase(working, recorded));
  try {
    const directory = path.posix.join(options.tree, 'databases', databaseDirectory(recorded.name));
    await withWatchdog(
      { timeoutMs: options.stallTimeoutMs, pulses: [() => tools.activity()], signal, what: `the restore of ${target}` },
      (watched) => tools.run(restoreCommand(tools.connection, working, directory, options.jobs), watched),
    ).catch((error: unknown) => {
      if (error instanceof LifeboatError && error.code !== 'EXEC_FAILED') throw error;
      throw new LifeboatError('PG_RESTORE_FAILED', `pg_restore of ${recorded.name} failed`, { cause: error });
    });
    options.step('comparing with what was recorded');
    const session = await tools.session(working, signal);
    try {
      result.rows = await compare(session, recorded);
    } finally {
      await session.close();
    }
    for (const sql of databaseProperties(working, recorded)) await control.run(sql);
    if (before === 'empty') await dropEmpty(tools, control, target, signal);
    await control.run(`ALTER DATABASE ${quoteIdentifier(working)} RENAME TO ${quoteIdentifier(target)}`);
    return result;
  } catch (error) {
    await dropDatabase(tools, working);
    throw error;
  }
}

/** `<name>__<what>_<id>`, with the name cut on a character border so that the whole fits 63 bytes. */
export function workingName(name: string, what: 'restoring' | 'before', id: string): string {
  const suffix = `__${what}_${id}`;
  let head = name;
  while (Buffer.byteLength(head) + Buffer.byteLength(suffix) > NAME_LIMIT) head = [...head].slice(0, -1).join('');
  return head + suffix;
}

function recordedDatabase(facts: PostgresFacts, database: string): DatabaseFacts {
  const recorded = facts.databases.find((candidate) => candidate.name === database);
  if (recorded) return recorded;
  const names = facts.databases.map((candidate) => candidate.name).join(', ');
  throw new LifeboatError('PG_DATABASE_UNKNOWN', `the snapshot has no database ${database}`, {
    hint: `It has: ${names}.`,
  });
}

/** Which databases of a snapshot to load under which names, and which to leave alone. */
export interface LoadPlan {
  load: { database: string; target: string }[];
  left: { database: string; reason: string }[];
}

/**
 * Decides what to load, and refuses what would replace data, before anything is made. A database that exists and holds no
 * objects at all (a fresh container makes one) does not count as existing. Without a name, every recorded database is
 * meant, except empty ones that exist.
 */
export async function databasesToLoad(
  control: Session,
  facts: PostgresFacts,
  container: string,
  wanted: { database?: string; toDatabase?: string },
): Promise<LoadPlan> {
  const major = (version: number) => Math.floor(version / 10000);
  if (major(control.versionNumber) < major(facts.server.versionNumber)) {
    throw new LifeboatError(
      'PG_VERSION',
      `the snapshot is from Postgres ${facts.server.version}, ${container} runs ${major(control.versionNumber)}`,
      { hint: 'Restore into a server of the same major version or a newer one; nothing was changed.' },
    );
  }
  const chosen = wanted.database === undefined ? facts.databases : [recordedDatabase(facts, wanted.database)];
  const filled = chosen.filter((database) => database.tables.length > 0);
  const renamed = wanted.toDatabase !== undefined && chosen.length > 1 ? filled : chosen;
  if (wanted.toDatabase !== undefined && renamed.length !== 1) {
    throw new LifeboatError(
      'USAGE',
      `the snapshot has several databases: ${chosen.map(({ name }) => name).join(', ')}`,
      {
        hint: 'Say which one with --database NAME.',
      },
    );
  }
  const present = new Set(
    (await control.all<{ name: string }>('SELECT datname AS name FROM pg_database')).map(({ name }) => name),
  );
  const plan: LoadPlan = { load: [], left: [] };
  for (const database of renamed) {
    const target = wanted.toDatabase ?? database.name;
    checkName(target);
    if (
      present.has(target) &&
      wanted.database === undefined &&
      database.tables.length === 0 &&
      wanted.toDatabase === undefined
    ) {
      plan.left.push({ database: database.name, reason: 'it exists, and the snapshot has no tables for it' });
    } else {
      plan.load.push({ database: database.name, target });
    }
  }
  return plan;
}

function checkName(target: string): void {
  if (target !== '' && Buffer.byteLength(target) <= NAME_LIMIT && !target.includes('\0')) return;
  throw new LifeboatError('USAGE', 'a database name has 1 to 63 bytes', { hint: 'Choose another name.' });
}

/** PG_TARGET_EXISTS unless the target is absent, or there without a single object in it. */
async function checkTarget(
  tools: Tools,
  control: Session,
  target: string,
  signal: AbortSignal,
): Promise<'absent' | 'empty'> {
  const [existing] = await control.all('SELECT 1 FROM pg_database WHERE datname = $1', [target]);
  if (!existing) return 'absent';
  const session = await tools.session(target, signal);
  try {
    const { objects } = await session.one<{ objects: string }>(
      `SELECT ((SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace)
             + (SELECT count(*) FROM pg_proc WHERE oid >= 16384) + (SELECT count(*) FROM pg_type WHERE oid >= 16384)
             + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384) + (SELECT count(*) FROM pg_extension WHERE oid >= 16384)
             + (SELECT count(*) FROM pg_largeobject_metadata))::text AS objects`,
    );
    if (objects === '0') return 'empty';
  } finally {
    await session.close();
  }
  throw new LifeboatError('PG_TARGET_EXISTS', `database ${target} exists in ${tools.container} and is not empty`, {
    hint: 'Restore beside it with --to-database NAME, or rename the present one first; nothing was changed.',
  });
}

async function checkRoles(control: Session, recorded: DatabaseFacts): Promise<void> {
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  const present = new Set(rows.map((row) => row.name));
  const missing = [...new Set([recorded.owner, ...recorded.owners])].filter(
    (role) => role !== '' && !present.has(role),
  );
  if (missing.length > 0) {
    throw new LifeboatError('PG_RESTORE_FAILED', `the server lacks roles that own objects: ${missing.join(', ')}`, {
      hint: 'Add --globals to create missing roles from the snapshot; nothing was changed.',
    });
  }
}

/** The statement that makes an empty database with the recorded encoding and locale (Postgres docs, CREATE DATABASE). */
export function createDatabase(name: string, recorded: DatabaseFacts): string {
  const parts = [
    `CREATE DATABASE ${quoteIdentifier(name)} TEMPLATE template0`,
    `OWNER ${quoteIdentifier(recorded.owner)}`,
    `ENCODING ${quoteLiteral(recorded.encoding)}`,
    `LC_COLLATE ${quoteLiteral(recorded.collate)}`,
    `LC_CTYPE ${quoteLiteral(recorded.ctype)}`,
  ];
  if (recorded.provider === 'icu') {
    parts.push('LOCALE_PROVIDER icu', `ICU_LOCALE ${quoteLiteral(recorded.locale ?? '')}`);
    if (recorded.icuRules) parts.push(`ICU_RULES ${quoteLiteral(recorded.icuRules)}`);
  } else if (recorded.provider === 'builtin') {
    parts.push('LOCALE_PROVIDER builtin', `BUILTIN_LOCALE ${quoteLiteral(recorded.locale ?? '')}`);
  }
  return parts.join(' ');
}

/** What `pg_dump` keeps outside the database it dumps: limits, comment, settings and grants of the database itself. */
export function databaseProperties(name: string, recorded: DatabaseFacts): string[] {
  const database = quoteIdentifier(name);
  const statements: string[] = [];
  if (recorded.connectionLimit !== -1) {
    statements.push(`ALTER DATABASE ${database} CONNECTION LIMIT ${recorded.connectionLimit}`);
  }
  if (recorded.comment) statements.push(`COMMENT ON DATABASE ${database} IS ${quoteLiteral(recorded.comment)}`);
  for (const { role, config } of recorded.settings) {
    const whom =
      role === null ? `ALTER DATABASE ${database}` : `ALTER ROLE ${quoteIdentifier(role)} IN DATABASE ${database}`;
    for (const entry of config) statements.push(`${whom} SET ${setting(entry)}`);
  }
  if (recorded.grants !== null) {
    statements.push(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`);
    for (const { grantee, privilege, grantable } of recorded.grants) {
      const to = grantee === null ? 'PUBLIC' : quoteIdentifier(grantee);
      statements.push(
        `GRANT ${privilege} ON DATABASE ${database} TO ${to}${grantable && grantee !== null ? ' WITH GRANT OPTION' : ''}`,
      );
    }
  }
  return statements;
}

/** Settings whose value is a list of names: written as several constants, as pg_dump does (GUC_LIST_QUOTE). */
const LIST_SETTINGS = new Set([
  'local_preload_libraries',
  'search_path',
  'session_preload_libraries',
  'shared_preload_libraries',
  'temp_tablespaces',
  'unix_socket_directories',
]);

function setting(entry: string): string {
  const at = entry.indexOf('=');
  const name = entry.slice(0, at);
  const value = entry.slice(at + 1);
  const key = name.split('.').map(quoteIdentifier).join('.');
  if (!LIST_SETTINGS.has(name.toLowerCase())) return `${key} TO ${quoteLiteral(value)}`;
  // The stored form is already a list of identifiers: `"$user", public`.
  const items = [...value.matchAll(/"((?:[^"]|"")*)"|([^",\s][^",]*)/g)];
  const names = items.map((item) =>
    item[1] !== undefined ? item[1].replaceAll('""', '"') : (item[2] as string).trim(),
  );
  return `${key} TO ${names.map(quoteLiteral).join(', ') || "''"}`;
}

/** Row counts and extensions against the record. Returns the rows found equal; PG_RESTORE_FAILED on any difference. */
async function compare(session: Session, recorded: DatabaseFacts): Promise<number> {
  const differences: string[] = [];
  const extensions = await session.all<{ name: string }>('SELECT extname AS name FROM pg_extension');
  for (const { name } of recorded.extensions) {
    if (!extensions.some((extension) => extension.name === name)) differences.push(`extension ${name} is missing`);
  }
  const expected = recorded.tables.filter(
    (table) => table.exact && table.extension === undefined && table.data !== false,
  );
  const restored: TableFacts[] = expected.map((table) => ({ ...table, rows: -1 }));
  await countRows(session, restored);
  restored.forEach((table, i) => {
    const rows = (expected[i] as TableFacts).rows;
    if (table.rows !== rows)
      differences.push(`${table.schema}.${table.name} has ${table.rows} rows, recorded were ${rows}`);
  });
  if (differences.length > 0) {
    throw new LifeboatError(
      'PG_RESTORE_FAILED',
      `the restored database differs from the record: ${differences.slice(0, 5).join('; ')}`,
      {
        hint: 'The restored copy was dropped and nothing else was changed; try an older snapshot and report this.',
      },
    );
  }
  return expected.reduce((sum, table) => sum + table.rows, 0);
}

/** Makes way for the restored database. Looks again first: what was empty minutes ago may hold data now. */
async function dropEmpty(tools: Tools, control: Session, target: string, signal: AbortSignal): Promise<void> {
  await checkTarget(tools, control, target, signal);
  await control.all(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()',
    [target],
  );
  await control.run(`DROP DATABASE ${quoteIdentifier(target)}`);
}

/** Drops our own working database, sessions on it included. Never rejects: it runs on the way out of a failure. */
async function dropDatabase(tools: Tools, name: string): Promise<void> {
  try {
    const control = await tools.control();
    await control.all('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1', [name]);
    await control.run(`DROP DATABASE IF EXISTS ${quoteIdentifier(name)}`);
  } catch (error) {
    tools.log.warn(`could not drop the working database ${name}: drop it by hand`, { error: String(error) });
  }
}
