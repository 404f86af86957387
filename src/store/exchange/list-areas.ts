import { errorInfo } from '../../base/errors.ts';
import { type AreaKind, parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { walk } from '../filesystem/walk.ts';
import { KEPT } from './directory-meta.ts';
import { isOtherRoot } from './find-area.ts';
import { identityOf } from './identity.ts';
import { inVolume } from './in-volume.ts';
import { type KnownArea, recogniseInPlace } from './known-area.ts';
import { proofOf } from './list-proof.ts';
import { exchangeState, readMoves } from './move-list.ts';
import { isForeign, isOwn } from './own-area.ts';

/** An area at the top of a volume, or one that a record names. */
export interface VolumeArea {
  kind: AreaKind;
  /** ID of the restore or rollback that made it */
  id: string;
  files: number;
  bytes: number;
  /** a record names it, but it is not as Lifeboat left it: why, for a message */
  refused?: string;
  /** a record names it, but it is not in the volume, or the volume is another one */
  missing?: 'area' | 'volume';
  /** no record names it, and somebody else may have made it: why, for a message */
  unproven?: string;
  /** no record names it, and only Lifeboat can have made it: what it says about its restore */
  shows?: AreaContent;
}

/** The description of an area's data, from the area itself. */
interface AreaContent {
  /** ID of the restore that it can roll back */
  restore: string;
  holds: 'before' | 'restored';
  /** ISO time */
  at: string;
  snapshot?: string;
  /** the area, for a record */
  known: KnownArea;
}

/**
 * Lists the recorded areas in a volume, and all other directories that have names of areas. Counts the files and bytes
 * in them. Changes nothing.
 */
export function listAreas(path: string, known: readonly KnownArea[], signal?: AbortSignal): Promise<VolumeArea[]> {
  return inVolume(path, async (root) => {
    const areas: VolumeArea[] = [];
    const add = async (area: VolumeArea, work: () => Promise<VolumeArea>) => {
      const found = await work().catch((error: unknown): VolumeArea => {
        signal?.throwIfAborted();
        return { ...area, refused: `it cannot be read: ${errorInfo(error).message}` };
      });
      areas.push(found);
    };
    for (const one of known) {
      const area = { kind: 'before' as const, id: one.area, files: 0, bytes: 0 };
      await add(area, () => describeKnown(root, area, one, signal));
    }
    for (const name of root.names()) {
      const parsed = parseAreaName(name);
      if (!parsed || (parsed.kind === 'before' && known.some(({ area }) => area === parsed.id))) continue;
      const area = { ...parsed, files: 0, bytes: 0 };
      await add(area, () => describeUnknown(root, name, area, signal));
    }
    return areas;
  });
}

async function describeKnown(
  root: Directory,
  area: VolumeArea,
  known: KnownArea,
  signal: AbortSignal | undefined,
): Promise<VolumeArea> {
  const recognised = await recogniseInPlace(root, known);
  if (!recognised) return { ...area, missing: isOtherRoot(root, known.root) ? 'volume' : 'area' };
  if (recognised.refused !== undefined) return { ...area, refused: recognised.refused };
  try {
    return { ...area, ...(await measure(recognised.found.area, signal)) };
  } finally {
    recognised.found.area.close();
  }
}

/** Describes a directory without a record, as after the loss of the spool. Only its owner can show who made it. */
async function describeUnknown(
  root: Directory,
  name: string,
  area: VolumeArea,
  signal: AbortSignal | undefined,
): Promise<VolumeArea> {
  const directory = root.enter(name);
  if (!directory) return { ...area, unproven: 'it is no directory' };
  try {
    const stat = directory.stat();
    if (isForeign(root)) return { ...area, unproven: 'this file system does not show who made it' };
    if (!isOwn(root, stat)) return { ...area, unproven: `user ${stat.uid} owns it, or others may write to it` };
    const shows = await contentOf(root, directory, area.id).catch(() => undefined);
    return { ...area, ...(await measure(directory, signal)), ...(shows ? { shows } : {}) };
  } finally {
    directory.close();
  }
}

async function contentOf(root: Directory, directory: Directory, area: string): Promise<AreaContent | undefined> {
  if (exchangeState(directory) !== 'done') return undefined;
  const { header } = await readMoves(directory, area);
  const { restore, holds, at, snapshot } = header;
  const known = { area, identity: identityOf(directory), root: identityOf(root), ...(await proofOf(directory)) };
  return { restore, holds, at, ...(snapshot ? { snapshot } : {}), known };
}

async function measure(
  directory: Directory,
  signal: AbortSignal | undefined,
): Promise<{ files: number; bytes: number }> {
  const sum = { files: 0, bytes: 0 };
  for await (const { path: inside, stat } of walk(directory, { signal })) {
    if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
    sum.files++;
    sum.bytes += stat.size;
  }
  return sum;
}
