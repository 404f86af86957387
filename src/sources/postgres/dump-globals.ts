import { lstat } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../errors.ts';
import { globalsCommand } from './commands.ts';
import type { Tools } from './tools.ts';
import { withWatchdog } from './watchdog.ts';

export interface DumpGlobalsOptions {
  tools: Tools;
  /** root of the tree, as the agent and the helper both see it */
  directory: string;
  stallTimeoutMs: number;
  signal: AbortSignal;
}

/** What is told of a dump in which roles have no passwords. */
export const NO_PASSWORDS =
  'roles are stored without their passwords: only a superuser may read those (LIFEBOAT_PGUSER); after a restore to a new server, set them anew';

/**
 * Writes roles, memberships and tablespaces to `globals.sql`. Resolves to warnings. Errors: PG_STALLED, EXEC_FAILED.
 */
export async function dumpGlobals({ tools, directory, stallTimeoutMs, signal }: DumpGlobalsOptions): Promise<string[]> {
  const file = path.posix.join(directory, 'globals.sql');
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
