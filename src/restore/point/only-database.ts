import { LifeboatError } from '../../base/errors.ts';
import { isRegular } from '../../store/objects/manifest.ts';
import type { Repository } from '../../store/repository/repository.ts';

/** The database that Postgres always has, and that applications leave alone. */
const MAINTENANCE = 'postgres';

/**
 * Returns the only database that any snapshot of a server names, apart from `postgres`, so that nobody has to name it.
 * A database that failed or was dropped since counts: it may be the one to recover.
 *
 * @throws USAGE if there are several, or none is known; the errors of listing the snapshots
 */
export async function onlyDatabase(repository: Repository, source: string, signal: AbortSignal): Promise<string> {
  const { snapshots } = await repository.snapshots(signal);
  const named = snapshots
    .filter(({ manifest }) => isRegular(manifest))
    .flatMap(({ manifest }) => manifest.sources[source]?.databases ?? [])
    .map(({ name }) => name);
  const names = [...new Set(named)].filter((name) => name !== MAINTENANCE);
  const [only, ...others] = names;
  if (only !== undefined && others.length === 0) return only;
  throw new LifeboatError('USAGE', 'a recovery of a part of a server to a point in time needs --database', {
    hint:
      only === undefined
        ? 'Name the database. Nobody knows which ones the server has until a backup has stored them.'
        : `The snapshots have these databases: ${names.join(', ')}.`,
  });
}
