import { lstat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorInfo, LifeboatError } from '../../../base/errors.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { rolesOf } from '../facts/summary.ts';
import { globalsCommand } from '../server/commands.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Tools } from '../server/tools.ts';
import { withWatchdog } from '../server/watchdog.ts';

interface DumpGlobalsOptions {
  tools: Tools;
  /** root of the tree; the path is the same in the agent and the helper */
  directory: string;
  stallTimeoutMs: number;
  signal: AbortSignal;
}

/** The file in a tree that has the roles, memberships and tablespaces. */
const GLOBALS = 'globals.sql';

/** Warning about roles that were dumped without passwords. */
const NO_PASSWORDS =
  'roles are stored without their passwords: only a superuser may read those (LIFEBOAT_PGUSER); after a restore to a new server, set them again';

/**
 * Writes roles, memberships and tablespaces to `globals.sql`. Returns warnings.
 *
 * @throws PG_STALLED, EXEC_FAILED
 */
export async function dumpGlobals({ tools, directory, stallTimeoutMs, signal }: DumpGlobalsOptions): Promise<string[]> {
  const file = path.posix.join(directory, GLOBALS);
  const size = async () => String((await lstat(file)).size);
  const watch = {
    timeoutMs: stallTimeoutMs,
    pulses: [size, () => tools.activity()],
    signal,
    what: `the dump of the roles in ${tools.container}`,
  };
  const dump = (passwords: boolean) =>
    withWatchdog(watch, (watched) =>
      tools.run(globalsCommand(tools.connection, tools.database, file, passwords), watched),
    );
  try {
    await dump(true);
    return [];
  } catch (error) {
    // Only a superuser may read the passwords in pg_authid.
    if (!(error instanceof LifeboatError) || !/pg_authid/.test(error.message)) throw error;
    await dump(false);
    return [NO_PASSWORDS];
  }
}

/** The facts about a database that {@link dumpMissingRoles} needs. */
type DumpedDatabase = Pick<DatabaseFacts, 'name' | 'owner' | 'owners' | 'grantees' | 'settings'>;

/** Runs {@link dumpGlobals}. `roles` are those that existed both before and after it, so the file must have them. */
export async function dumpKnownGlobals(
  options: DumpGlobalsOptions,
): Promise<{ warnings: string[]; roles: Set<string> }> {
  const before = await listRoles(options.tools);
  const warnings = await dumpGlobals(options);
  const after = await listRoles(options.tools);
  return { warnings, roles: new Set([...before].filter((role) => after.has(role))) };
}

/**
 * Dumps the globals again if they lack a role that a dumped database names. Globals and databases are not dumped at the
 * same time, so the role may have been created in between. Returns a warning for each role that is still missing
 * because it was dropped.
 *
 * @param roles the roles in the globals
 * @throws PG_STALLED, EXEC_FAILED
 */
export async function dumpMissingRoles(
  options: DumpGlobalsOptions,
  databases: readonly DumpedDatabase[],
  roles: ReadonlySet<string>,
): Promise<string[]> {
  if (missingRoles(databases, roles).size === 0) return [];
  const again = await dumpKnownGlobals(options);
  const dropped = [...missingRoles(databases, again.roles)].map(
    ([role, names]) =>
      `role ${role} was dropped during the backup, and ${names.join(', ')} still names it: a restore to a server without it needs CREATE ROLE ${quoteIdentifier(role)} first`,
  );
  return [...again.warnings, ...dropped];
}

/**
 * Returns the roles that databases name but the globals lack, with the names of these databases. Predefined roles
 * (`pg_…`) exist on every server.
 */
function missingRoles(databases: readonly DumpedDatabase[], known: ReadonlySet<string>): Map<string, string[]> {
  const missing = new Map<string, string[]>();
  for (const database of databases) {
    for (const role of new Set(rolesOf(database))) {
      if (!known.has(role) && !role.startsWith('pg_')) missing.set(role, [...(missing.get(role) ?? []), database.name]);
    }
  }
  return missing;
}

/** Lists the roles of the server. The file is no source, because the helper may still change it. */
async function listRoles(tools: Tools): Promise<Set<string>> {
  const control = await tools.control();
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  return new Set(rows.map(({ name }) => name));
}

/**
 * Replaces globals that could not be dumped with a file without statements, because an incomplete file would look
 * complete.
 */
export async function leaveOutGlobals({ tools, directory }: DumpGlobalsOptions): Promise<void> {
  const file = path.posix.join(directory, GLOBALS);
  await tools.remove(file);
  await writeFile(file, '-- Roles and tablespaces could not be dumped. See the warnings of the snapshot.\n', {
    mode: 0o600,
    // Fails if the helper has created a file or a link there in the meantime.
    flag: 'wx',
  });
}

/** Returns the error of a server whose databases are stored without its roles and tablespaces. */
export function withoutGlobalsError(error: ErrorInfo): ErrorInfo {
  const { code, message, cause } = error;
  return {
    code,
    message: `roles and tablespaces are not stored: ${message}`,
    ...(cause === undefined ? {} : { cause }),
    hint: 'The databases are stored. Before a restore to a server that lacks their roles, create these by hand, or take them from an older snapshot.',
  };
}
