import { parseSnapshotId } from '../objects/snapshot-id.ts';

/**
 * Directories that Lifeboat creates at the top of a volume during a restore, for the new tree (`restoring`) and the
 * replaced one (`before`). They do not belong to the volume's data: walks skip them, and no snapshot restores one.
 */
export type AreaKind = 'restoring' | 'before';

const NAME = /^\.lifeboat-(restoring|before)-(.+)$/s;

/** Returns the name of an area. `id`: ID of the restore or rollback. */
export function areaName(kind: AreaKind, id: string): string {
  return `.lifeboat-${kind}-${id}`;
}

/** The inverse of {@link areaName}. Returns undefined for any other name. */
export function parseAreaName(name: string): { kind: AreaKind; id: string } | undefined {
  const [, kind, id = ''] = NAME.exec(name) ?? [];
  return kind && parseSnapshotId(id) ? { kind: kind as AreaKind, id } : undefined;
}
