import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../../../base/errors.ts';
import type { RoleMount } from '../../../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../../../plan/model.ts';

/** A directory of the agent's spool that a helper sees, at the same path. Nothing else of the spool is in the helper. */
export interface SharedDirectory {
  directory: string;
  /**
   * `read-write`: what the helper leaves there is a stranger's work, see {@link refuseStrangeFiles}. `read-only`: but for the directory
   * {@link SCRATCH} in it, into which the agent never looks.
   */
  access: 'read-only' | 'read-write';
}

/** Where a helper that reads may write, below the directory that it shares. */
export const SCRATCH = 'scratch';

/**
 * A directory of the spool as mounts of a helper: by its path on the host, since engines before 26 cannot mount a part of a volume
 * (`VolumeOptions.Subpath`, API 1.45). The directory has to be there. Errors: AGENT_NOT_IN_CONTAINER for a spool that is neither a volume nor a bind.
 */
export function sharedMounts(spool: Mount, { directory, access }: SharedDirectory): RoleMount[] {
  const scratch = path.posix.join(directory, SCRATCH);
  return [
    { mount: spoolPart(spool, directory), target: directory, access },
    ...(access === 'read-write'
      ? []
      : [{ mount: spoolPart(spool, scratch), target: scratch, access: 'read-write' as const }]),
  ];
}

/** A directory of the spool as a read-only mount without a scratch directory. Errors: as for {@link sharedMounts}. */
export function readOnlyMount(spool: Mount, directory: string): RoleMount {
  return { mount: spoolPart(spool, directory), target: directory };
}

function spoolPart(spool: Mount, target: string): Mount {
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

/** Makes the scratch directory of one that is shared to be read. */
export async function makeScratch({ directory, access }: SharedDirectory): Promise<void> {
  if (access === 'read-only') await mkdir(path.join(directory, SCRATCH), { recursive: true, mode: 0o700 });
}

/** A mount of the database container, at the same place. */
export function asItIs(mount: Mount): RoleMount {
  return { mount, target: mount.destination };
}

/**
 * The mount that holds a server's data, by the directory of its record or else the first of the likely ones that lies in a mount; none
 * where the helper has it already (`without`).
 */
export function dataMounts(
  source: Pick<PostgresSource, 'mounts' | 'dataDirectories'>,
  without: Mount | undefined,
  recorded?: string,
): RoleMount[] {
  const likely = recorded === undefined ? source.dataDirectories : [recorded, ...source.dataDirectories];
  const mount = likely.map((directory) => mountOf(source.mounts, directory)).find((one) => one !== undefined);
  return mount === undefined || mount === without || mount.destination === '/spool' ? [] : [asItIs(mount)];
}

/** The volume or directory of the host that holds a path of the container: the innermost one. */
export function mountOf(mounts: readonly Mount[], file: string): Mount | undefined {
  return mounts
    .filter(({ destination }) => isWithin(file, destination))
    .sort((a, b) => b.destination.length - a.destination.length)
    .slice(0, 1)
    .find(({ type }) => type === 'volume' || type === 'bind');
}

/** Images have /var/run as a link to /run. */
function isWithin(file: string, directory: string): boolean {
  const plain = (name: string) => `${name.replace(/^\/var\/run(?=\/|$)/, '/run').replace(/\/+$/, '')}/`;
  return plain(file).startsWith(plain(directory));
}
