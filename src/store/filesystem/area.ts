import { parseSnapshotId } from '../objects/snapshot-id.ts';

/**
 * Directories that Lifeboat creates at the top of a volume during a restore, for the new tree (`restoring`) and the
 * replaced one (`before`). They do not belong to the volume's data: walks skip them, and no snapshot restores one.
 */
export type AreaKind = 'restoring' | 'before';

const NAME = /^(?:pgsql_tmp)?\.lifeboat-(restoring|before)-(.+)$/s;

/**
 * The path at which a helper sees a volume of which only the data directory of a Postgres server is exchanged. Base
 * backups leave out names that begin with `pgsql_tmp` (Postgres docs, BASE_BACKUP in the replication protocol), so
 * areas in a data directory have such names.
 */
export const DATA_ROOT = '/pgdata';

/**
 * Returns the name of an area.
 *
 * @param id of the restore or rollback
 * @param place the path at which the root of its tree is seen; absent: not in a data directory
 */
export function areaName(kind: AreaKind, id: string, place = ''): string {
  return `${`${place}/`.startsWith(`${DATA_ROOT}/`) ? 'pgsql_tmp' : ''}.lifeboat-${kind}-${id}`;
}

/** The inverse of {@link areaName}. Returns undefined for any other name. */
export function parseAreaName(name: string): { kind: AreaKind; id: string } | undefined {
  const [, kind, id = ''] = NAME.exec(name) ?? [];
  return kind && parseSnapshotId(id) ? { kind: kind as AreaKind, id } : undefined;
}
