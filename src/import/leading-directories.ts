import { Directory } from '../store/filesystem/directory.ts';
import { shortPath, type TreePath } from '../store/filesystem/path.ts';

/** The directories that contain everything in a tree. */
interface Leading {
  /** each is the only entry of the one before it; the first is the only entry of the top directory */
  names: TreePath[];
  /** the entries of the last one */
  below: TreePath[];
}

/** Returns which of some paths the source has now, or had at its last backup. Undefined if that is not known. */
export type PathLookup = (paths: readonly TreePath[]) => Promise<ReadonlySet<TreePath> | undefined>;

/**
 * Warns if everything in an unpacked archive is below one directory that the source may not have. A restore would put
 * the files there, where no application finds them. A directory that the source has triggers a warning if the names in
 * it are rather those at the top of the source: `data/data`, `data/uploads`.
 *
 * @param root the unpacked tree
 * @param strip how many leading directories were removed already
 */
export async function leadingDirectoryWarnings(
  root: string,
  { source, strip, knownOf }: { source: string; strip: number; knownOf: PathLookup },
): Promise<string[]> {
  const { names, below } = readLeading(root);
  const [first] = names;
  if (first === undefined) return [];
  const inPlace = below.map((name) => [...names, name].join('/'));
  const known = await knownOf([...names, ...below, ...inPlace]);
  const count = known?.has(first)
    ? countIfAtTop({ names, below }, inPlace, known)
    : countToStrip({ names, below }, known ?? new Set());
  if (known?.has(first) && count === undefined) return [];
  const advice =
    count === undefined
      ? `import again with --strip ${strip + 1}, or more, up to --strip ${strip + names.length}, which removes ${shortPath(names.join('/'))}/`
      : `import again with --strip ${strip + count}`;
  const why =
    known === undefined
      ? `and whether ${source} has that directory is not known`
      : known.has(first)
        ? `and the names in it are at the top of ${source}`
        : `which ${source} does not have`;
  return [
    `everything in the archive is below ${shortPath(first)}/, ${why}: a restore puts the files there. To put them at the top, ${advice}`,
  ];
}

function readLeading(root: string): Leading {
  const names: TreePath[] = [];
  let at = Directory.open(root);
  try {
    for (;;) {
      const below = at.names();
      const [only, ...others] = below;
      const next = only === undefined || others.length > 0 ? undefined : at.enter(only);
      if (only === undefined || !next) return { names, below };
      names.push(only);
      at.close();
      at = next;
    }
  } finally {
    at.close();
  }
}

/** Returns how many directories to remove if most names below them are at the top of the source, and not in place. */
function countIfAtTop(
  { names, below }: Leading,
  inPlace: readonly TreePath[],
  known: ReadonlySet<TreePath>,
): number | undefined {
  const count = (paths: readonly TreePath[]) => paths.filter((one) => known.has(one)).length;
  const atTop = count(below);
  return atTop > count(inPlace) && 2 * atTop > below.length ? names.length : undefined;
}

/**
 * Returns how many directories to remove, so that a known name is at the top. Undefined if several numbers may be
 * right.
 */
function countToStrip({ names, below }: Leading, known: ReadonlySet<TreePath>): number | undefined {
  const found = names.findIndex((name) => known.has(name));
  if (found !== -1) return found;
  if (names.length === 1 || below.some((name) => known.has(name))) return names.length;
  return undefined;
}
