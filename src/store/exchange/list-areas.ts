import { errorInfo } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import { walk } from '../filesystem/walk.ts';
import { KEPT } from './directory-meta.ts';
import { inVolume } from './in-volume.ts';
import { type KnownArea, recogniseInPlace } from './known-area.ts';

/** A recorded area with put-aside data, as the volume shows it. */
export interface VolumeArea {
  /** ID of the restore or rollback that made it */
  area: string;
  files: number;
  bytes: number;
  /** it is not as Lifeboat left it: why, for a message */
  refused?: string;
}

/** Finds the recorded areas in a volume, and counts the files and bytes in them. Areas that are gone are left out. */
export function listAreas(path: string, known: readonly KnownArea[], signal?: AbortSignal): Promise<VolumeArea[]> {
  return inVolume(path, async (root) => {
    const areas: VolumeArea[] = [];
    for (const one of known) {
      const found = await describeArea(root, one, signal).catch((error: unknown) => {
        signal?.throwIfAborted();
        return { area: one.area, files: 0, bytes: 0, refused: `it cannot be read: ${errorInfo(error).message}` };
      });
      if (found) areas.push(found);
    }
    return areas;
  });
}

async function describeArea(
  root: Directory,
  known: KnownArea,
  signal: AbortSignal | undefined,
): Promise<VolumeArea | undefined> {
  const recognised = await recogniseInPlace(root, known);
  if (!recognised) return undefined;
  const described: VolumeArea = { area: known.area, files: 0, bytes: 0 };
  if (recognised.refused !== undefined) return { ...described, refused: recognised.refused };
  const { area } = recognised.found;
  try {
    for await (const { path: inside, stat } of walk(area, { signal })) {
      if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
      described.files++;
      described.bytes += stat.size;
    }
    return described;
  } finally {
    area.close();
  }
}
