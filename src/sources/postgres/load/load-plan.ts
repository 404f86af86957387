import { LifeboatError } from '../../../base/errors.ts';
import { type Contents, readContents } from '../facts/contents.ts';
import type { DatabaseFacts, PostgresFacts } from '../facts/facts.ts';
import { rolesNeeded } from '../facts/globals-statements.ts';
import { rolesOf } from '../facts/summary.ts';
import { isUnusable, type Session } from '../server/session.ts';
import type { Tools } from '../server/tools.ts';
import { tableKey } from './compare-rows.ts';

/** Longest name that Postgres keeps whole, bytes (NAMEDATALEN - 1). */
export const NAME_LIMIT = 63;

/** What stands under the name that a database is to be restored to. */
type TargetState = 'absent' | Contents;

/** One database that a restore makes. */
export interface PlannedLoad {
  database: string;
  target: string;
  /** `data`: what stands under the name is replaced, and kept beside */
  state: TargetState;
}

/** Which databases of a snapshot to load under which names, and which to leave alone. */
export interface LoadPlan {
  load: PlannedLoad[];
  left: { database: string; reason: string }[];
  /** roles that restored objects belong to, that have rights on them, or settings in the database */
  roles: string[];
  /** those that the server lacks of these, their members and the groups of both */
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
 * Decides what to load, and refuses what cannot be restored, before anything is made. A database that exists and holds
 * data under its own name will be replaced; under a name chosen by `toDatabase` it is refused. Without a name, every
 * recorded database is meant, except those that held no data and exist.
 *
 * Errors: PG_VERSION, PG_DATABASE_UNKNOWN, PG_TARGET_EXISTS, PG_TARGET_BUSY, USAGE.
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

/** A database with prepared transactions cannot be renamed (Postgres docs, PREPARE TRANSACTION). PG_TARGET_BUSY. */
export async function checkRenamable(control: Session, target: string, container: string): Promise<void> {
  const rows = await control.all<{ gid: string }>('SELECT gid FROM pg_prepared_xacts WHERE database = $1', [target]);
  if (rows.length === 0) return;
  const named = rows.slice(0, 3).map(({ gid }) => JSON.stringify(gid));
  throw new LifeboatError(
    'PG_TARGET_BUSY',
    `database ${target} in ${container} has prepared transactions, so it cannot be renamed: ${named.join(', ')}`,
    { hint: 'End them with COMMIT PREPARED or ROLLBACK PREPARED, then try again; nothing was changed.' },
  );
}

/** The recorded facts of a database. PG_DATABASE_UNKNOWN when the snapshot does not have it. */
export function recordedDatabase(facts: PostgresFacts, database: string): DatabaseFacts {
  const recorded = facts.databases.find((candidate) => candidate.name === database);
  if (recorded) return recorded;
  throw new LifeboatError('PG_DATABASE_UNKNOWN', `the snapshot has no database ${database}`, {
    hint: `It has: ${facts.databases.map(({ name }) => name).join(', ')}.`,
  });
}

/** Those of some roles that the server lacks, sorted; the system's own belong to its version. */
async function missingRoles(control: Session, roles: readonly string[]): Promise<string[]> {
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  const present = new Set(rows.map((row) => row.name));
  return [...new Set(roles)].filter((role) => !present.has(role) && !role.startsWith('pg_')).sort();
}

/**
 * Resolves to the roles that the server lacks and that only had rights on something. PG_RESTORE_FAILED when it lacks one that a
 * restored object would belong to.
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
    hint: `Create them (CREATE ROLE)${recorded.owner === '' ? '' : ', or bring them with --globals where the snapshot has them'}, then try again; the database is as it was.`,
  });
}

/** The roles that tables of a database belong to, and all others that the database knows of. */
export function rolesOfTables(
  { owners, grantees = [], tables: recorded }: DatabaseFacts,
  { tables }: { tables: readonly { schema: string; name: string }[] },
): Pick<DatabaseFacts, 'owner' | 'owners' | 'grantees'> {
  const keys = new Set(tables.map(tableKey));
  const own = new Set(recorded.filter((table) => keys.has(tableKey(table))).map(({ owner }) => owner));
  return { owner: '', owners: [...own], grantees: [...owners, ...grantees].filter((role) => !own.has(role)) };
}

/** Looks at the target now. */
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
    // What cannot be looked at may hold anything.
    if (isUnusable(error)) return 'data';
    throw error;
  } finally {
    await session?.close();
  }
}

export function targetExists(target: string, container: string, cause?: unknown): LifeboatError {
  return new LifeboatError('PG_TARGET_EXISTS', `database ${target} exists in ${container} and is not empty`, {
    cause,
    hint: 'Choose another name; nothing was changed.',
  });
}

/** PG_VERSION when the server is older than the one that the snapshot is from. */
export function checkVersion(control: Session, facts: PostgresFacts, container: string): void {
  const major = (version: number) => Math.floor(version / 10000);
  if (major(control.versionNumber) >= major(facts.server.versionNumber)) return;
  throw new LifeboatError(
    'PG_VERSION',
    `the snapshot is from Postgres ${facts.server.version}, ${container} runs ${major(control.versionNumber)}`,
    { hint: 'Restore into a server of the same major version or a newer one; nothing was changed.' },
  );
}

/** With a new name but several recorded databases, the one that holds data is meant. */
function choose(facts: PostgresFacts, database: string | undefined, toDatabase: string | undefined): DatabaseFacts[] {
  const chosen = database === undefined ? facts.databases : [recordedDatabase(facts, database)];
  if (toDatabase === undefined || chosen.length === 1) return chosen;
  const filled = chosen.filter(({ contents }) => contents === 'data');
  if (filled.length === 1) return filled;
  throw new LifeboatError('USAGE', `the snapshot has several databases: ${chosen.map(({ name }) => name).join(', ')}`, {
    hint: 'Say which one with --database NAME.',
  });
}

function checkName(target: string): void {
  if (target !== '' && Buffer.byteLength(target) <= NAME_LIMIT && !target.includes('\0')) return;
  throw new LifeboatError('USAGE', 'a database name has 1 to 63 bytes', { hint: 'Choose another name.' });
}

/** Why a recorded database that nobody asked for by name is not restored, or undefined when it is to be. */
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
