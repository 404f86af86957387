import type { RoleMount } from '../../docker/helper-kinds.ts';
import type { Mount, PostgresSource } from '../../plan/model.ts';

/** Where the images keep a server's data (up to version 17 in `data` below it). */
const DATA = '/var/lib/postgresql';

/** The mounts of the database container that hold files named by *_FILE settings. */
export function secretMounts(source: PostgresSource): RoleMount[] {
  const files = [source.userFile, source.passwordFile, source.databaseFile].filter((file) => file !== undefined);
  return own(source, ({ destination }) =>
    files.some((file) => file === destination || file.startsWith(`${destination}/`)),
  );
}

/** Where its data may be; without the mounts of its secrets. */
export function dataMounts(source: PostgresSource): RoleMount[] {
  const secrets = secretMounts(source).map(({ target }) => target);
  return own(
    source,
    ({ type, destination }) => !secrets.includes(destination) && (type === 'volume' || destination.startsWith(DATA)),
  );
}

function own(source: PostgresSource, holds: (mount: Mount) => boolean): RoleMount[] {
  return source.mounts
    .filter((mount) => mount.destination !== '/spool' && holds(mount))
    .map((mount) => ({ mount, target: mount.destination }));
}
