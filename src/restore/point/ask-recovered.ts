import { LifeboatError } from '../../base/errors.ts';
import type { RecordedBase } from '../../sources/postgres/base-source.ts';
import { TOOLS } from '../../sources/postgres/server/commands.ts';
import type { RecoveredServer } from './live-server.ts';
import { optionsOf, SETTINGS, SUPERUSER_SCRIPT } from './recovery-settings.ts';
import { targetSettings } from './target.ts';

/** Runs a script in the helper of a recovered server, with its data directory as `$0`. Returns the stdout. */
type Ask = (script: string, ...args: string[]) => Promise<string>;

/** Refuses an image of another major version than that of the data. @throws HELPER_FAILED; EXEC_FAILED, ENGINE_* */
export async function refuseOtherMajor(ask: Ask, { version, versionNumber }: RecordedBase['server']): Promise<void> {
  const image = (await ask(`${TOOLS}; exec postgres --version`)).trim();
  const wanted = Math.floor(versionNumber / 10_000);
  if (Number(/ (\d+)/.exec(image)?.[1]) === wanted) return;
  throw new LifeboatError(
    'HELPER_FAILED',
    `the base backup is of Postgres ${version}, and the present image has ${image}`,
    {
      hint: `Nothing in use was changed. The image of the base backup is gone: run the service with one of Postgres ${wanted}.`,
    },
  );
}

/** Returns which server the data is of. The server does not run. @throws PG_RESTORE_FAILED; EXEC_FAILED, ENGINE_* */
export async function identityOf(ask: Ask): Promise<RecoveredServer> {
  const out = await ask(`${TOOLS}; export LC_ALL=C; exec pg_controldata -D "$0"`);
  const systemId = /^Database system identifier: +(\d+)$/m.exec(out)?.[1];
  const timeline = /^Latest checkpoint's TimeLineID: +(\d+)$/m.exec(out)?.[1];
  if (systemId !== undefined && timeline !== undefined) return { systemId, timeline: Number(timeline) };
  throw new LifeboatError('PG_RESTORE_FAILED', 'pg_controldata does not say which server the recovered data is of');
}

/** Returns the role that initdb made, which may do everything. Throws like {@link identityOf}. */
export async function superuserOf(ask: Ask): Promise<string> {
  const settings = { ...SETTINGS, ...Object.fromEntries(targetSettings(undefined)) };
  const [, hex] = / name = "([0-9a-f]+)"/.exec(await ask(SUPERUSER_SCRIPT, ...optionsOf(settings))) ?? [];
  if (hex !== undefined) return Buffer.from(hex, 'hex').toString('utf8');
  throw new LifeboatError('PG_RESTORE_FAILED', 'the recovered server has no role that may do everything');
}
