import { lstat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorInfo, LifeboatError } from '../../../base/errors.ts';
import { globalsCommand } from '../server/commands.ts';
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
