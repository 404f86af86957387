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
  /** root of the tree, as the agent and the helper both see it */
  directory: string;
  stallTimeoutMs: number;
  signal: AbortSignal;
}

/** The file of roles, memberships and tablespaces in a tree. */
const GLOBALS = 'globals.sql';

/** What is told of a dump in which roles have no passwords. */
const NO_PASSWORDS =
  'roles are stored without their passwords: only a superuser may read those (LIFEBOAT_PGUSER); after a restore to a new server, set them anew';

/**
 * Writes roles, memberships and tablespaces to `globals.sql`. Resolves to warnings. Errors: PG_STALLED, EXEC_FAILED.
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
    // Only a superuser may read pg_authid: without one, roles are kept without their passwords.
    if (!(error instanceof LifeboatError) || !/pg_authid/.test(error.message)) throw error;
    await dump(false);
    return [NO_PASSWORDS];
  }
}

/** What {@link dumpMissingRoles} needs of a database. */
type DumpedDatabase = Pick<DatabaseFacts, 'name' | 'owner' | 'owners' | 'grantees' | 'settings'>;

/** Runs {@link dumpGlobals}, and returns the roles that existed before and after it, so that the file has them. */
export async function dumpKnownGlobals(
  options: DumpGlobalsOptions,
): Promise<{ warnings: string[]; roles: Set<string> }> {
  const before = await listRoles(options.tools);
  const warnings = await dumpGlobals(options);
  const after = await listRoles(options.tools);
  return { warnings, roles: new Set([...before].filter((role) => after.has(role))) };
}

/**
 * Dumps the globals once more when they lack a role that a dumped database names: globals and databases are not dumped at one
 * moment, so the role may have been created in between. Returns a warning for each role that is still missing, because
 * somebody dropped it.
 *
 * @param roles those that the globals have
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

/** The roles that databases name and the globals lack, with these databases. The system's own roles need no creation. */
function missingRoles(databases: readonly DumpedDatabase[], known: ReadonlySet<string>): Map<string, string[]> {
  const missing = new Map<string, string[]>();
  for (const database of databases) {
    for (const role of new Set(rolesOf(database))) {
      if (!known.has(role) && !role.startsWith('pg_')) missing.set(role, [...(missing.get(role) ?? []), database.name]);
    }
  }
  return missing;
}

/** The server is asked rather than the file, which the helper may still change. */
async function listRoles(tools: Tools): Promise<Set<string>> {
  const control = await tools.control();
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  return new Set(rows.map(({ name }) => name));
}

/** Puts a file without statements in the place of globals that could not be dumped: a half would look like the whole. */
export async function leaveOutGlobals({ tools, directory }: DumpGlobalsOptions): Promise<void> {
  const file = path.posix.join(directory, GLOBALS);
  await tools.remove(file);
  await writeFile(file, '-- Roles and tablespaces could not be dumped. See the warnings of the snapshot.\n', {
    mode: 0o600,
    // What the helper may have put there meanwhile is not followed.
    flag: 'wx',
  });
}

/** Why a server is stored in part when its databases are stored and its roles are not. */
export function withoutGlobalsError(error: ErrorInfo): ErrorInfo {
  const { code, message, cause } = error;
  return {
    code,
    message: `roles and tablespaces are not stored: ${message}`,
    ...(cause === undefined ? {} : { cause }),
    hint: 'The databases are stored. A restore to a server that lacks their roles needs these made by hand, or an older snapshot that has them.',
  };
}
