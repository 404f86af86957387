import { lstat, open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorInfo, errorInfo, LifeboatError } from '../../../base/errors.ts';
import { READ_FLAGS } from '../../../store/filesystem/read-file.ts';
import { isRefusal } from '../facts/count-rows.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { type RoleFacts, readRoleFacts } from '../facts/roles.ts';
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
export const GLOBALS = 'globals.sql';

/** Warning about roles that were dumped without passwords. */
const NO_PASSWORDS =
  'roles are stored without their passwords: only a superuser may read those (LIFEBOAT_PGUSER); after a restore to a new server, set them again';

/** The end of a complete file: `pg_dumpall` writes this comment last. Other vendors use their own product name. */
const CLOSING = /(?:^|\n)-- \S.* database cluster dump complete\n--\s*$/;

/** The most bytes at the end of a file that hold the closing comment. */
const END_BYTES = 512;

/**
 * Writes roles, memberships and tablespaces to `globals.sql`. Returns warnings. `pg_dumpall` writes to a temporary
 * name, and only a complete file replaces the present one. After a failure, the present file is unchanged.
 *
 * @throws PG_STALLED, EXEC_FAILED; PG_DUMP_INCOMPLETE if the closing comment is missing
 */
export async function dumpGlobals(options: DumpGlobalsOptions): Promise<string[]> {
  const file = path.posix.join(options.directory, GLOBALS);
  const temporary = `${file}.new`;
  try {
    const warnings = await runDump(options, temporary);
    await expectComplete(temporary, options.tools.container);
    await rename(temporary, file);
    return warnings;
  } catch (error) {
    // Neither unlink nor rename follows a link that a hostile helper may create here.
    await rm(temporary, { force: true }).catch((cause: unknown) =>
      options.tools.log.warn('an incomplete dump of the roles could not be removed', { ...errorInfo(cause) }),
    );
    throw error;
  }
}

/** Runs `pg_dumpall`, without passwords if the role may not read them. Returns warnings. */
async function runDump({ tools, stallTimeoutMs, signal }: DumpGlobalsOptions, file: string): Promise<string[]> {
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

/** @throws PG_DUMP_INCOMPLETE if a file cannot be read, or does not end as `pg_dumpall` ends it */
async function expectComplete(file: string, container: string): Promise<void> {
  const message = `the dump of the roles in ${container} is incomplete`;
  const end = await readEnd(file).catch((cause: unknown) => {
    throw new LifeboatError('PG_DUMP_INCOMPLETE', message, { cause });
  });
  if (!CLOSING.test(end))
    throw new LifeboatError('PG_DUMP_INCOMPLETE', `${message}: the closing comment of pg_dumpall is missing`);
}

/** Reads the last {@link END_BYTES} of a regular file. */
async function readEnd(file: string): Promise<string> {
  const handle = await open(file, READ_FLAGS);
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new Error(`${path.basename(file)} is not a regular file`);
    const buffer = Buffer.alloc(END_BYTES);
    const { bytesRead } = await handle.read(buffer, 0, END_BYTES, Math.max(0, stat.size - END_BYTES));
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await handle.close();
  }
}

/** The facts about a database that {@link dumpMissingRoles} needs. */
type DumpedDatabase = Pick<DatabaseFacts, 'name' | 'owner' | 'owners' | 'grantees' | 'settings'>;

/** The result of {@link dumpKnownGlobals}. */
export interface KnownGlobals {
  warnings: string[];
  /** those that existed both before and after the dump, so the file must have them */
  roles: ReadonlySet<string>;
  /** absent if the server refused to tell them, or if they changed during the dump, so the file may have either */
  facts?: RoleFacts[];
}

/** Runs {@link dumpGlobals}, and reads the roles before and after it. */
export async function dumpKnownGlobals(options: DumpGlobalsOptions): Promise<KnownGlobals> {
  const before = await listRoles(options.tools);
  const warnings = await dumpGlobals(options);
  const after = await listRoles(options.tools);
  const roles = new Set([...before.names].filter((role) => after.names.has(role)));
  const isSame = JSON.stringify(before.facts) === JSON.stringify(after.facts);
  return { warnings, roles, ...(before.facts && isSame ? { facts: before.facts } : {}) };
}

/**
 * Dumps the globals again if they lack a role that a dumped database names. Globals and databases are not dumped at the
 * same time, so the role may have been created in between. The result then has a warning for each role that is still
 * missing because it was dropped. If the second dump fails, the first one stays.
 *
 * @param first the globals as they are. Resolves to them if they lack no role, without their warnings
 * @throws PG_STALLED, EXEC_FAILED, PG_DUMP_INCOMPLETE
 */
export async function dumpMissingRoles(
  options: DumpGlobalsOptions,
  databases: readonly DumpedDatabase[],
  first: KnownGlobals,
): Promise<KnownGlobals> {
  if (missingRoles(databases, first.roles).size === 0) return { ...first, warnings: [] };
  const again = await dumpKnownGlobals(options);
  const dropped = [...missingRoles(databases, again.roles)].map(
    ([role, names]) =>
      `role ${role} was dropped during the backup, and ${names.join(', ')} still names it: a restore to a server without it needs CREATE ROLE ${quoteIdentifier(role)} first`,
  );
  return { ...again, warnings: [...again.warnings, ...dropped] };
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
async function listRoles(tools: Tools): Promise<{ names: Set<string>; facts?: RoleFacts[] | undefined }> {
  const control = await tools.control();
  const rows = await control.all<{ name: string }>('SELECT rolname AS name FROM pg_roles');
  const facts = await readRoleFacts(control).catch((error: unknown) => {
    if (!isRefusal(error)) throw error;
    return undefined;
  });
  return { names: new Set(rows.map(({ name }) => name)), facts };
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
