import { parseSnapshotId } from '../objects/snapshot-id.ts';

/**
 * Directories that Lifeboat makes at the top of a volume that it restores into: what is built beside, and what was
 * replaced. They are no part of the volume's data: walks pass over them, and no snapshot brings one back.
 */
export type AreaKind = 'restoring' | 'before';

const NAME = /^\.lifeboat-(restoring|before)-(.+)$/s;

/** The directory's name. `id`: of the restore or rollback that made it. */
export function areaName(kind: AreaKind, id: string): string {
  return `.lifeboat-${kind}-${id}`;
}

/** The inverse of {@link areaName}; undefined for every other name. */
export function parseAreaName(name: string): { kind: AreaKind; id: string } | undefined {
  const [, kind, id = ''] = NAME.exec(name) ?? [];
  return kind && parseSnapshotId(id) ? { kind: kind as AreaKind, id } : undefined;
}
