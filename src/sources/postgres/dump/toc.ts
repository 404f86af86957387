/** One line of `pg_restore --list`. */
export interface TocEntry {
  dumpId: number;
  /** `TABLE DATA`, `BLOBS`, `SEQUENCE SET` … */
  kind: string;
  /** rest of the line: schema, name, owner (names may hold blanks: never parsed further) */
  rest: string;
}

/** Kinds whose content lies in a file of the dump directory. Longest first. */
const DATA_KINDS = ['TABLE DATA', 'BLOBS', 'BLOB'] as const;

/**
 * Reads the list that `pg_restore --list` prints. Lines look like `3367; 0 16385 TABLE DATA public orders app`; a name with
 * a newline in it makes lines that do not, which are passed over.
 */
export function parseToc(list: string): TocEntry[] {
  const entries: TocEntry[] = [];
  for (const line of list.split('\n')) {
    const match = /^(\d+); \d+ \d+ (.*)$/.exec(line);
    if (!match) continue;
    const text = match[2] as string;
    const kind = DATA_KINDS.find((k) => text.startsWith(`${k} `)) ?? (text.split(' ')[0] as string);
    entries.push({ dumpId: Number(match[1]), kind, rest: text.slice(kind.length + 1) });
  }
  return entries;
}

/** How many entries the head of the list promises (`;     TOC Entries: 42`), or undefined. */
export function promisedEntries(list: string): number | undefined {
  const match = /^;\s+TOC Entries: (\d+)$/m.exec(list);
  return match ? Number(match[1]) : undefined;
}

/**
 * The dump ids whose file is missing from the directory's listing: `3367.dat`, `3367.dat.zst`, `3367.dat.gz`. Large
 * objects (BLOBS) are named by `blobs.toc`, `blobs_<id>.toc`.
 */
export function missingDataFiles(entries: TocEntry[], files: readonly string[]): number[] {
  const present = new Set(files);
  return entries
    .filter((entry) => entry.kind === 'TABLE DATA')
    .filter(({ dumpId }) => !['', '.zst', '.gz', '.lz4'].some((suffix) => present.has(`${dumpId}.dat${suffix}`)))
    .map((entry) => entry.dumpId);
}
