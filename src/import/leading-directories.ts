import { Directory } from '../store/filesystem/directory.ts';
import { shortPath, type TreePath } from '../store/filesystem/path.ts';

/** The directories that contain everything in a tree. */
interface Leading {
  /** each is the only entry of the one before it; the first is the only entry of the top directory */
  names: TreePath[];
  /** the entries of the last one */
  below: TreePath[];
}

/** Returns which of some names the top directory of the source has now, or had at its last backup. */
export type TopLookup = (names: readonly TreePath[]) => Promise<ReadonlySet<TreePath>>;

/**
 * Warns if everything in an unpacked archive is below one directory that the source does not have. A restore would put
 * the files there, where no application finds them.
 *
 * @param root the unpacked tree
 * @param strip how many leading directories were removed already
 */
export async function leadingDirectoryWarnings(
  root: string,
  { source, strip, topOf }: { source: string; strip: number; topOf: TopLookup },
): Promise<string[]> {
  const { names, below } = readLeading(root);
  const [first] = names;
  if (first === undefined) return [];
  const known = await topOf([...names, ...below]);
  if (known.has(first)) return [];
  const count = countToStrip({ names, below }, known);
  const advice =
    count === undefined
      ? `import again with --strip ${strip + 1}, or more, up to --strip ${strip + names.length}, which removes ${shortPath(names.join('/'))}/`
      : `import again with --strip ${strip + count}`;
  return [
    `everything in the archive is below ${shortPath(first)}/, which ${source} does not have: a restore puts the files there. To put them at the top, ${advice}`,
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
