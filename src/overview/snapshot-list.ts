import type { ErrorCode } from '../base/errors.ts';
import type { SnapshotRow } from '../report/terminal/listing.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import type { Pin } from '../store/repository/pins.ts';
import type { SnapshotList } from '../store/repository/repository.ts';
import { missingDatabases } from '../store/repository/stored-databases.ts';

/** With fewer snapshots than this, a listing also names other projects in the same place. */
export const FEW = 5;

/** The snapshots of a project, as `snapshots --json` prints them and the API sends them. */
export interface SnapshotsDocument {
  /** newest first, in the order in which they were made: an import of old data too */
  snapshots: SnapshotRow[];
  damaged: { id: string; code: ErrorCode }[];
  /** other projects in the same place */
  others: readonly string[];
}

/** The sources of a document about snapshots. */
interface ListedSnapshots {
  /** newest first */
  manifests: readonly Manifest[];
  /** ids of snapshots that are not signed although a signing key is set */
  unsigned: readonly string[];
  damaged: SnapshotList['damaged'];
  others: readonly string[];
}

/** Makes the document about the snapshots of a project. Not redacted. `pins`: by snapshot id. */
export function snapshotsDocument(
  { manifests, unsigned, damaged, others }: ListedSnapshots,
  pins: ReadonlyMap<string, Pin>,
): SnapshotsDocument {
  const notSigned = new Set(unsigned);
  const rows = manifests.map((manifest) => {
    const pinned = pins.get(manifest.id)?.reason;
    const row = { ...toRow(manifest), ...(notSigned.has(manifest.id) ? { unsigned: true as const } : {}) };
    return { ...row, ...(pinned === undefined ? {} : { pinned }) };
  });
  return { snapshots: rows, damaged: damaged.map(({ id, error }) => ({ id, code: error.code })), others };
}

function toRow({ id, end, status, trigger, sources, imported }: Manifest): SnapshotRow {
  const each = Object.entries(sources).map(([name, entry]) => {
    const { status: own, bytes, newBytes } = entry;
    const missing = missingDatabases(entry).map(({ name: database }) => database);
    return { name, status: own, bytes, newBytes, ...(missing.length > 0 ? { missing } : {}) };
  });
  return { id, end, status, trigger, ...(imported ? { imported } : {}), sources: each };
}
