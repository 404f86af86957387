import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import { placeInContainer } from '../../docker/container-file.ts';
import type { Engine } from '../../docker/engine.ts';
import type { PostgresSource, VolumeSource } from '../../plan/model.ts';
import { formatBoth } from '../../report/format.ts';
import type { RecordedBase } from '../../sources/postgres/base-source.ts';
import { withKeyId } from '../../store/objects/manifest.ts';
import type { RestoreContext } from '../context.ts';
import type { PointCheck } from './check-recovered.ts';
import type { LiveServer } from './live-server.ts';

/** The reasons why a recovery in place does not begin, or ends before anything in use changes. */

/** Refuses data of another major version than that of the server: it would not start. @throws TREE_TARGET_REFUSED */
export async function refuseOtherVersion(
  { entry, repository }: Pick<RestoreContext, 'entry' | 'repository'>,
  { imageId, containerName }: PostgresSource,
  live: LiveServer | undefined,
): Promise<void> {
  if (!entry.facts) throw new LifeboatError('OBJECT_MISSING', 'the base backup has no facts');
  const { server } = (await repository.readFacts(withKeyId(entry.facts, entry))) as RecordedBase;
  const major = (version: number) => Math.floor(version / 10_000);
  const isSame = live ? major(live.versionNumber) === major(server.versionNumber) : entry.image === imageId;
  if (isSame) return;
  const runs = live ? `is Postgres ${major(live.versionNumber)}` : 'does not answer, and has another image';
  throw new LifeboatError(
    'TREE_TARGET_REFUSED',
    `the base backup is of Postgres ${server.version}, and ${containerName} ${runs}`,
    { hint: 'Use --to-volume, or run the former image on an empty volume. Nothing was changed.' },
  );
}

/**
 * Refuses a data directory of which a part is in another mount, such as `pg_wal`: only the rest of it would be
 * exchanged. Single files, such as a configuration file, stay as they are mounted.
 *
 * @throws TREE_TARGET_REFUSED
 */
export function refuseMountsInside({ mounts, containerName }: PostgresSource, { mount }: VolumeSource): void {
  const root = path.posix.join(mount.destination, mount.directory ?? '');
  const inside = mounts.find(({ destination, kind }) => kind !== 'file' && destination.startsWith(`${root}/`));
  if (!inside) return;
  throw new LifeboatError(
    'TREE_TARGET_REFUSED',
    `${containerName} mounts ${inside.destination} inside its data directory, so that cannot be exchanged as a whole`,
    { hint: 'Use --to-volume. Nothing was changed.' },
  );
}

/**
 * Returns where the WAL of a server is, if `pg_wal` in its data directory is a link. POSTGRES_INITDB_WALDIR makes one.
 *
 * @throws ENGINE_*
 */
export async function linkedWal(
  engine: Pick<Engine, 'archive'>,
  { containerId }: PostgresSource,
  { mount }: VolumeSource,
  signal: AbortSignal,
): Promise<string | undefined> {
  const file = path.posix.join(mount.destination, mount.directory ?? '', 'pg_wal');
  const place = await placeInContainer(engine, containerId, file, { signal });
  return place === undefined || place.path === file ? undefined : place.path;
}

/**
 * Refuses a volume without room for the recovered data.
 *
 * @param space free and needed bytes
 * @throws TREE_TARGET_FULL
 */
export function refuseFullVolume(name: string, { free, needed }: { free: number; needed: number }): void {
  if (needed <= free) return;
  const [has, needs] = formatBoth(free, needed);
  throw new LifeboatError('TREE_TARGET_FULL', `${name} has ${has} free, and the recovery needs ${needs}`, {
    hint: 'Free space: `lifeboat status` shows the data that earlier restores put aside. --to-volume needs half as much.',
  });
}

/** Refuses recovered data that a check found damaged. @throws PG_RESTORE_FAILED */
export function refuseDamaged(checks: readonly PointCheck[]): void {
  const damaged = checks.find(({ ok }) => !ok);
  if (!damaged) return;
  throw new LifeboatError('PG_RESTORE_FAILED', `the recovered data is damaged: ${damaged.detail}`, {
    hint: 'Nothing was replaced. Recover to an earlier time, or use --to-volume to look at the data.',
  });
}
