import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../../base/errors.ts';
import { placeInContainer } from '../../../docker/container-file.ts';
import type { Engine } from '../../../docker/engine.ts';
import type { RoleMount } from '../../../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';

/**
 * A directory of the agent's spool that a helper mounts at the same path. The helper sees nothing else of the spool.
 */
export interface SharedDirectory {
  directory: string;
  /**
   * `read-write`: the contents are untrusted afterwards, see {@link refuseStrangeFiles}. `read-only`: the helper may
   * only write to the subdirectory {@link SCRATCH}, which the agent never reads.
   */
  access: 'read-only' | 'read-write';
}

/** The subdirectory of a read-only shared directory in which the helper may write. */
export const SCRATCH = 'scratch';

/**
 * Returns the mounts that share a directory of the spool with a helper. They use the path on the host, because engines
 * before 26 cannot mount a part of a volume (`VolumeOptions.Subpath`, API 1.45). The directory must exist.
 *
 * @throws AGENT_NOT_IN_CONTAINER for a spool that is neither a volume nor a bind
 */
export function sharedMounts(spool: Mount, { directory, access }: SharedDirectory): RoleMount[] {
  const scratch = path.posix.join(directory, SCRATCH);
  return [
    { mount: partOfSpool(spool, directory), target: directory, access },
    ...(access === 'read-write'
      ? []
      : [{ mount: partOfSpool(spool, scratch), target: scratch, access: 'read-write' as const }]),
  ];
}

/**
 * Returns a read-only mount of a directory of the spool, without a scratch directory. Throws like {@link sharedMounts}.
 */
export function readOnlyMount(spool: Mount, directory: string): RoleMount {
  return { mount: partOfSpool(spool, directory), target: directory };
}

/** Returns a part of the spool as a mount. Throws like {@link sharedMounts}. */
export function partOfSpool(spool: Mount, target: string): Mount {
  if (!spool.source.startsWith('/')) {
    throw new LifeboatError(
      'AGENT_NOT_IN_CONTAINER',
      `the ${spool.type} at ${spool.destination} cannot be shared with a helper`,
      {
        hint: `Mount a volume, or a directory of the host, at ${spool.destination}.`,
      },
    );
  }
  const source = path.posix.join(spool.source, path.posix.relative(spool.destination, target));
  return { type: 'bind', source, destination: target, writable: true };
}

/** Creates the scratch directory of a directory that is shared read-only. */
export async function makeScratch({ directory, access }: SharedDirectory): Promise<void> {
  if (access === 'read-only') await mkdir(path.join(directory, SCRATCH), { recursive: true, mode: 0o700 });
}

/** Returns a mount of the database container, at the same path. */
export function sameMount(mount: Mount): RoleMount {
  return { mount, target: mount.destination };
}

/**
 * Returns the mount that holds a server's data: the mount of the recorded directory, else of the first likely directory
 * that is in a mount. Returns an empty list if no mount is found, or if the helper already has it.
 *
 * @param without a mount that the helper already has
 * @param recorded the data directory in `postmaster.pid`
 */
export function dataMounts(
  source: Pick<PostgresSource, 'mounts' | 'dataDirectories'>,
  without: Mount | undefined,
  recorded?: string,
): RoleMount[] {
  const likely = recorded === undefined ? source.dataDirectories : [recorded, ...source.dataDirectories];
  const mount = likely.map((directory) => mountOf(source.mounts, directory)).find((one) => one !== undefined);
  return mount === undefined || mount === without || mount.destination === '/spool' ? [] : [sameMount(mount)];
}

/** Returns the innermost volume or bind mount that holds a path of the container. */
export function mountOf(mounts: readonly Mount[], file: string): Mount | undefined {
  const mount = innermost(mounts, file);
  return mount?.type === 'volume' || mount?.type === 'bind' ? mount : undefined;
}

function innermost(mounts: readonly Mount[], file: string): Mount | undefined {
  return mounts
    .filter(({ destination }) => isWithin(file, destination))
    .sort((a, b) => b.destination.length - a.destination.length)[0];
}

/**
 * Returns whether a path of the server's container is in the same mount as a directory. Follows links at its end.
 *
 * @throws ENGINE_*
 */
export async function sharesMount(
  { engine, source }: { engine: Pick<Engine, 'archive'>; source: Pick<PostgresSource, 'containerId' | 'mounts'> },
  file: string,
  directory: string,
  signal: AbortSignal,
): Promise<boolean> {
  const place = await placeInContainer(engine, source.containerId, file, { signal });
  return place !== undefined && innermost(source.mounts, place.path) === innermost(source.mounts, directory);
}

/** Treats /var/run as /run, because images link one to the other. */
function isWithin(file: string, directory: string): boolean {
  const plain = (name: string) => `${name.replace(/^\/var\/run(?=\/|$)/, '/run').replace(/\/+$/, '')}/`;
  return plain(file).startsWith(plain(directory));
}
