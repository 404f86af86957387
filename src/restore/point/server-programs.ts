import { LifeboatError } from '../../base/errors.ts';
import type { Engine } from '../../docker/engine.ts';
import { execText } from '../../docker/exec.ts';
import { TOOLS } from '../../sources/postgres/server/commands.ts';
import type { RecoveredServer } from './live-server.ts';
import { DATA, SETTINGS, SINGLE_SCRIPT } from './recovery-settings.ts';
import { targetSettings } from './target.ts';

/** Facts about the recovered server, as the programs of the image print them. */

/** Returns settings as options of the server. */
export function asOptions(settings: Readonly<Record<string, string>>): string[] {
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
}

/**
 * Returns the name of the role that `initdb` created. The environment of the source may name another role, or no longer
 * the one of the recovered time. The server must be shut down.
 *
 * @param container of the recovery
 * @throws PG_RESTORE_FAILED
 */
export async function superuserOf(engine: Engine, container: string, signal: AbortSignal): Promise<string> {
  const settings = { ...SETTINGS, ...Object.fromEntries(targetSettings(undefined)) };
  const argv = ['sh', '-c', SINGLE_SCRIPT, DATA, ...asOptions(settings)];
  // This role has this OID (pg_authid.dat).
  const input = 'SELECT rolname FROM pg_authid WHERE oid = 10\n';
  const { stdout, stderr } = await execText(engine, container, { argv, input, check: false, signal });
  const name = /rolname = "(.*)"\t\(typeid/.exec(stdout)?.[1];
  if (name !== undefined) return name;
  const words = stderr.trim().split('\n').slice(-4).join(' · ');
  throw new LifeboatError('PG_RESTORE_FAILED', `the recovered server does not say who its superuser is: ${words}`);
}

/**
 * Refuses an image that cannot read the data of a server.
 *
 * @param container of the recovery
 * @param versionNumber of the server, such as 170004
 * @throws HELPER_FAILED
 */
export async function refuseOtherMajor(
  engine: Engine,
  container: string,
  versionNumber: number,
  signal: AbortSignal,
): Promise<void> {
  const argv = ['sh', '-c', `${TOOLS}; postgres --version`];
  const { stdout } = await execText(engine, container, { argv, check: false, signal });
  const present = /\) (\d+)/.exec(stdout)?.[1];
  const needed = String(Math.floor(versionNumber / 10_000));
  if (present === needed) return;
  const has = present === undefined ? 'has no Postgres' : `has Postgres ${present}`;
  throw new LifeboatError('HELPER_FAILED', `the image that the base backup was made with is gone`, {
    hint: `The present image ${has}. Pull an image with Postgres ${needed}, such as postgres:${needed}.`,
  });
}

/**
 * Prints how many processes of the container the kernel has killed for its memory, with cgroup v2 or v1. The engine
 * knows that only of a container that has ended.
 */
const KILLS_SCRIPT = 'cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null';

/** Returns whether the kernel has killed a process of a running container because it used too much memory. */
export async function isKilledForMemory(engine: Engine, container: string): Promise<boolean> {
  const argv = ['sh', '-c', KILLS_SCRIPT];
  const { stdout } = await execText(engine, container, { argv, check: false }).catch(() => ({ stdout: '' }));
  return /^oom_kill [1-9]/m.test(stdout);
}

/** Returns an error that explains the failure of a running server better, if it had too little memory. */
export async function explainMemory(engine: Engine, container: string, error: unknown): Promise<unknown> {
  return (await isKilledForMemory(engine, container)) ? outOfMemory(error) : error;
}

/** Returns the error of a server that needs more memory than it may use. */
export function outOfMemory(cause: unknown): LifeboatError {
  return new LifeboatError('HELPER_FAILED', 'the server of the drill needs more memory than it may use', {
    cause,
    hint: 'Set LIFEBOAT_DRILL_MEMORY higher. The drill could not be completed, which says nothing about the snapshot.',
  });
}

/**
 * Returns which server data is of.
 *
 * @param control the output of `pg_controldata`
 * @throws PG_RESTORE_FAILED
 */
export function identityOf(control: string): RecoveredServer {
  const systemId = /^Database system identifier: +(\d+)$/m.exec(control)?.[1];
  const timeline = /^Latest checkpoint's TimeLineID: +(\d+)$/m.exec(control)?.[1];
  if (systemId !== undefined && timeline !== undefined) return { systemId, timeline: Number(timeline) };
  throw new LifeboatError('PG_RESTORE_FAILED', 'pg_controldata does not say which server the recovered data is of');
}
