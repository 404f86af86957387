import { LifeboatError } from '../../../base/errors.ts';
import { tableKey } from '../facts/compare-rows.ts';
import { type Contents, readContents } from '../facts/contents.ts';
import type { DatabaseFacts, PostgresFacts } from '../facts/facts.ts';
import { rolesNeeded } from '../facts/globals-statements.ts';
import { rolesOf } from '../facts/summary.ts';
import { isUnusable, type Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';

/** The longest name that Postgres does not truncate, bytes (NAMEDATALEN - 1). */
export const NAME_LIMIT = 63;

/** The database that already has the target's name. */
type TargetState = 'absent' | Contents;

/** One database that a restore creates. */
export interface PlannedLoad {
  database: string;
  target: string;
  /** `data`: the database under this name is replaced, and put aside */
  state: TargetState;
}

/** The databases of a snapshot to load, with their names, and those to leave alone. */
export interface LoadPlan {
  load: PlannedLoad[];
  left: { database: string; reason: string }[];
  /** roles that own restored objects, have rights on them, or have settings in the database */
  roles: string[];
  /** of these, their members and the groups of both, those that the server lacks */
  missingRoles: string[];
}

interface LoadPlanOptions {
  tools: Tools;
  facts: PostgresFacts;
  /** one recorded database; absent: all */
  database?: string;
  /** name to restore the database under */
  toDatabase?: string;
  signal: AbortSignal;
}

/**
 * Decides which databases to load, before anything is created. An existing database with data is replaced under its own
 * name, and refused under a name from `toDatabase`. Without a name, loads every recorded database except those that
 * held no data and exist.
 *
 * @throws PG_VERSION, PG_DATABASE_UNKNOWN, PG_TARGET_EXISTS, PG_TARGET_BUSY, USAGE
 */
export async function planLoad(options: LoadPlanOptions): Promise<LoadPlan> {
  const { tools, facts, database, toDatabase } = options;
  const control = await tools.control();
  checkVersion(control, facts, tools.container);
  const asked = database !== undefined || toDatabase !== undefined;
  const plan: LoadPlan = { load: [], left: [], roles: [], missingRoles: [] };
  const chosen = choose(facts, database, toDatabase);
  for (const recorded of chosen) {
    const target = toDatabase ?? recorded.name;
    checkName(target);
    const state = await targetState(tools, control, target, options.signal);
    const reason = asked ? undefined : reasonToLeave(recorded, state);
    if (reason !== undefined) {
      plan.left.push({ database: recorded.name, reason });
      continue;
    }
    if (state === 'data' && toDatabase !== undefined) throw targetExists(target, tools.container);
    if (state !== 'absent') await checkRenamable(control, target, tools.container);
    plan.roles.push(...rolesOf(recorded));
    plan.load.push({ database: recorded.name, target, state });
  }
  plan.roles = [...new Set(plan.roles)].sort();
  const needed = rolesNeeded(facts.memberships ?? [], plan.roles);
  plan.missingRoles = await missingRoles(control, [...needed]);
  return plan;
}

/**
 * Refuses a database with prepared transactions, which cannot be renamed (Postgres docs, PREPARE TRANSACTION). @throws
 * PG_TARGET_BUSY
 */
export async function checkRenamable(control: Session, target: string, container: string): Promise<void> {
  const rows = await control.all<{ gid: string }>('SELECT gid FROM pg_prepared_xacts WHERE database = $1', [target]);
  if (rows.length === 0) return;
  const named = rows.slice(0, 3).map(({ gid }) => JSON.stringify(gid));
  throw new LifeboatError(
    'PG_TARGET_BUSY',
    `database ${target} in ${container} has prepared transactions, so it cannot be renamed: ${named.join(', ')}`,
    { hint: 'End them with COMMIT PREPARED or ROLLBACK PREPARED, then try again. Nothing was changed.' },
  );
}

/** Returns the recorded facts of a database. @throws PG_DATABASE_UNKNOWN if the snapshot does not hold it */
export function recordedDatabase(facts: PostgresFacts, database: string): DatabaseFacts {
  const recorded = facts.databases.find((candidate) => candidate.name === database);
  if (recorded) return recorded;
  throw new LifeboatError('PG_DATABASE_UNKNOWN', `the snapshot has no database ${database}`, {
    hint: `It has: ${facts.databases.map(({ name }) => name).join(', ')}.`,
  });
}

/** Returns those of some roles that the server lacks, sorted, without the predefined roles of Postgres. */
async function missingRoles(control: Session, roles: readonly string[]): Promise<string[]> {
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  const present = new Set(rows.map((row) => row.name));
  return [...new Set(roles)].filter((role) => !present.has(role) && !role.startsWith('pg_')).sort();
}

/**
 * Resolves to the roles that the server lacks and that only have rights on objects.
 *
 * @throws PG_RESTORE_FAILED if the server lacks a role that owns a restored object
 */
export async function checkRoles(
  control: Session,
  recorded: Pick<DatabaseFacts, 'owner' | 'owners' | 'grantees'>,
): Promise<string[]> {
  const owners = [recorded.owner, ...recorded.owners].filter((role) => role !== '');
  const missing = await missingRoles(control, owners);
  if (missing.length === 0) return missingRoles(control, recorded.grantees ?? []);
  throw new LifeboatError('PG_RESTORE_FAILED', `the server lacks roles that own objects: ${missing.join(', ')}`, {
    // `--globals` goes with whole databases only, which have an owner themselves.
    hint: `Create them (CREATE ROLE)${recorded.owner === '' ? '' : ', or restore them with --globals if the snapshot has them'}, then try again. The database is unchanged.`,
  });
}

/** Returns the roles that own tables of a database, and all other roles that the database mentions as grantees. */
export function rolesOfTables(
  { owners, grantees = [], tables: recorded }: DatabaseFacts,
  { tables }: { tables: readonly { schema: string; name: string }[] },
): Pick<DatabaseFacts, 'owner' | 'owners' | 'grantees'> {
  const keys = new Set(tables.map(tableKey));
  const own = new Set(recorded.filter((table) => keys.has(tableKey(table))).map(({ owner }) => owner));
  return { owner: '', owners: [...own], grantees: [...owners, ...grantees].filter((role) => !own.has(role)) };
}

/** Inspects the present target. */
export async function targetState(
  tools: Tools,
  control: Session,
  target: string,
  signal: AbortSignal,
): Promise<TargetState> {
  const [existing] = await control.all('SELECT 1 FROM pg_database WHERE datname = $1', [target]);
  if (!existing) return 'absent';
  let session: Session | undefined;
  try {
    session = await tools.session(target, signal);
    return await readContents(session);
  } catch (error) {
    // A database that cannot be opened may hold data.
    if (isUnusable(error)) return 'data';
    throw error;
  } finally {
    await session?.close();
  }
}

export function targetExists(target: string, container: string, cause?: unknown): LifeboatError {
  return new LifeboatError('PG_TARGET_EXISTS', `database ${target} exists in ${container} and is not empty`, {
    cause,
    hint: 'Choose another name. Nothing was changed.',
  });
}

/** @throws PG_VERSION if the major version of the server is older than that of the snapshot */
export function checkVersion(control: Session, facts: PostgresFacts, container: string): void {
  const major = (version: number) => Math.floor(version / 10000);
  if (major(control.versionNumber) >= major(facts.server.versionNumber)) return;
  throw new LifeboatError(
    'PG_VERSION',
    `the snapshot is from Postgres ${facts.server.version}, ${container} runs ${major(control.versionNumber)}`,
    { hint: 'Restore into a server of the same major version or a newer one. Nothing was changed.' },
  );
}

/** Chooses the recorded databases. With a new name for one of several, chooses the only one that holds data. */
function choose(facts: PostgresFacts, database: string | undefined, toDatabase: string | undefined): DatabaseFacts[] {
  const chosen = database === undefined ? facts.databases : [recordedDatabase(facts, database)];
  if (toDatabase === undefined || chosen.length === 1) return chosen;
  const filled = chosen.filter(({ contents }) => contents === 'data');
  if (filled.length === 1) return filled;
  throw new LifeboatError('USAGE', `the snapshot has several databases: ${chosen.map(({ name }) => name).join(', ')}`, {
    hint: 'Choose one with --database NAME.',
  });
}

function checkName(target: string): void {
  if (target !== '' && Buffer.byteLength(target) <= NAME_LIMIT && !target.includes('\0')) return;
  throw new LifeboatError('USAGE', 'a database name has 1 to 63 bytes', { hint: 'Choose another name.' });
}

/** Returns why a recorded database that the request does not name is not restored; undefined if it is. */
function reasonToLeave(recorded: DatabaseFacts, state: TargetState): string | undefined {
  if (state === 'absent' || recorded.contents === 'data') return undefined;
  if (state !== 'nothing') return 'it exists, and the snapshot has no data for it';
  return isPlain(recorded) ? 'it exists, and the snapshot has nothing for it' : undefined;
}

/** The comment that initdb gives the database `postgres`. */
const INITDB_COMMENT = 'default administrative connection database';

function isPlain({ contents, settings, grants, connectionLimit, comment }: DatabaseFacts): boolean {
  const commented = comment !== undefined && comment !== INITDB_COMMENT;
  return contents === 'nothing' && settings.length === 0 && grants === null && connectionLimit === -1 && !commented;
}
