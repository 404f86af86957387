import { type AreaKind, parseAreaName } from '../filesystem/area.ts';
import { Directory } from '../filesystem/directory.ts';
import { shortPath } from '../filesystem/path.ts';
import { walk } from '../filesystem/walk.ts';
import { KEPT } from './directory-meta.ts';
import { FORGOTTEN, type KnownArea, whyUntrusted } from './known-area.ts';
import { exchangeState, readMoves, sumMoves } from './move-list.ts';
import { inodeOf, isForeign } from './own-area.ts';
import { identifyRoot, isOtherRoot } from './volume-state.ts';

/** An area that a restore or rollback left in a volume, next to the data. */
export interface VolumeArea {
  kind: AreaKind;
  /** ID of the restore or rollback that made the area */
  id: string;
  /** ID of the restore that this area can roll back, and which data it holds; absent if unknown */
  restore?: string;
  holds?: 'before' | 'restored';
  /** ISO time; absent if unknown */
  at?: string;
  snapshot?: string;
  files: number;
  bytes: number;
  /** its deletion was interrupted, so that nothing can be brought back from it */
  forgotten?: true;
  /** of an area that can be brought back: see {@link KnownArea} */
  inode?: string;
  list?: string;
  root?: string;
  /** a record refers to it, but it is not as Lifeboat left it: why, for a message */
  refused?: string;
  /** a record refers to it, but the volume does not have it: it is gone, or the `volume` is not the recorded one */
  missing?: 'area' | 'volume';
  /** no record refers to it, and nothing proves that Lifeboat made it: why, for a message */
  unproven?: string;
}

/**
 * Lists all areas that Lifeboat made in a volume, and those that a record names, even if they are missing. Counts the
 * files and bytes in them unless `measure` is false.
 */
export function listAreas(root: string, options: ListOptions = {}): Promise<VolumeArea[]> {
  return inVolume(root, (top) => areasIn(top, options));
}

interface ListOptions {
  measure?: boolean;
  signal?: AbortSignal;
  /** the recorded areas */
  known?: readonly KnownArea[];
  /** also list areas that no record names and that Lifeboat may not have made */
  unproven?: boolean;
}

/** Like {@link listAreas}, with the open volume. */
export async function areasIn(root: Directory, options: ListOptions): Promise<VolumeArea[]> {
  const areas: VolumeArea[] = [];
  for (const name of root.names()) {
    const parsed = parseAreaName(name);
    const directory = parsed && root.enter(name);
    if (!parsed || !directory) continue;
    const known = parsed.kind === 'before' ? options.known?.find(({ area }) => area === parsed.id) : undefined;
    try {
      const refused = await whyUntrusted(root, directory, known);
      const unproven = refused ?? (isForeign(root) ? 'this file system does not show who made it' : undefined);
      if (!known && options.unproven && unproven !== undefined) areas.push({ ...parsed, files: 0, bytes: 0, unproven });
      else if (refused === undefined) areas.push(await describeArea({ root, directory }, parsed, known, options));
      else if (known) areas.push({ ...parsed, files: 0, bytes: 0, refused });
    } finally {
      directory.close();
    }
  }
  for (const known of options.known ?? []) {
    if (areas.some(({ kind, id }) => kind === 'before' && id === known.area)) continue;
    const name = await findRenamed(root, known);
    const missing = isOtherRoot(root, known.root) ? ('volume' as const) : ('area' as const);
    const why = name === undefined ? { missing } : { refused: `it is now called ${shortPath(name)}. Rename it back` };
    areas.push({ kind: 'before', id: known.area, files: 0, bytes: 0, ...why });
  }
  return areas;
}

/** Returns the present name of a recorded area that another program has renamed; undefined if there is none. */
async function findRenamed(root: Directory, { inode, list }: KnownArea): Promise<string | undefined> {
  if (inode === undefined || !list) return undefined;
  for (const name of root.names()) {
    const directory = String(root.look(name)?.ino) === inode ? root.enter(name) : undefined;
    if (!directory) continue;
    // The inode may have been used again.
    const sum = await sumMoves(directory).finally(() => directory.close());
    if (sum === list) return name;
  }
  return undefined;
}

async function describeArea(
  { root, directory }: { root: Directory; directory: Directory },
  parsed: { kind: AreaKind; id: string },
  known: KnownArea | undefined,
  { measure = true, signal }: ListOptions,
): Promise<VolumeArea> {
  const area: VolumeArea = { ...parsed, files: 0, bytes: 0 };
  if (exchangeState(directory) === 'done') {
    // A damaged list is ignored, so that the other areas are still listed.
    const verified = known?.list !== undefined && known.list !== '';
    const { header } = await readMoves(directory, parsed.id, verified).catch(() => ({ header: undefined }));
    if (header) {
      const { at, restore, holds, snapshot } = header;
      Object.assign(area, { at, restore, holds, ...(snapshot ? { snapshot } : {}) });
      const list = await sumMoves(directory);
      Object.assign(area, { inode: inodeOf(directory), ...(list ? { list } : {}), root: identifyRoot(root) });
    }
  }
  if (directory.look(FORGOTTEN)) area.forgotten = true;
  if (!measure) return area;
  for await (const { path: inside, stat } of walk(directory, signal ? { signal } : {})) {
    if (!inside.startsWith(`${KEPT}/`) || !stat || stat.type === 'directory') continue;
    area.files++;
    area.bytes += stat.size;
  }
  return area;
}

/** Opens a volume by its path for some work. */
export async function inVolume<T>(path: string, work: (root: Directory) => Promise<T>): Promise<T> {
  const root = Directory.open(path);
  try {
    return await work(root);
  } finally {
    root.close();
  }
}
