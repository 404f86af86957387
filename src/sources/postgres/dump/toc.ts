/** One line of `pg_restore --list`. */
export interface TocEntry {
  dumpId: number;
  /** `TABLE DATA`, `BLOBS`, `SEQUENCE SET` … */
  kind: string;
  /** rest of the line: schema, name and owner. It cannot be parsed further, because names may contain spaces */
  rest: string;
}

/** Kinds whose content is in a file of the dump directory. Longest first. */
const DATA_KINDS = ['TABLE DATA', 'BLOBS', 'BLOB'] as const;

/**
 * Parses the output of `pg_restore --list`. Lines look like `3367; 0 16385 TABLE DATA public orders app`. Other lines
 * are skipped, such as the continuation of a name with a line break.
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

/** Returns the number of entries in the header of the list (`;     TOC Entries: 42`), or undefined. */
export function promisedEntries(list: string): number | undefined {
  const match = /^;\s+TOC Entries: (\d+)$/m.exec(list);
  return match ? Number(match[1]) : undefined;
}

/**
 * Returns the dump ids of tables whose file is missing: `3367.dat`, `3367.dat.zst`, `3367.dat.gz`. Large objects
 * (BLOBS) are not checked, because `blobs.toc` and `blobs_<id>.toc` name their files.
 */
export function missingDataFiles(entries: TocEntry[], files: readonly string[]): number[] {
  const present = new Set(files);
  return entries
    .filter((entry) => entry.kind === 'TABLE DATA')
    .filter(({ dumpId }) => !['', '.zst', '.gz', '.lz4'].some((suffix) => present.has(`${dumpId}.dat${suffix}`)))
    .map((entry) => entry.dumpId);
}

/** Returns a name as the list has it: each line break is a space. */
export function oneLine(name: string): string {
  return name.replaceAll(/[\r\n]/g, ' ');
}

/**
 * Returns how to make names of a list comparable. The lists use the encoding of the database. If that is not UTF-8,
 * only ASCII characters can be compared.
 */
export function keyIn(encoding: string): (text: string) => string {
  return encoding === 'UTF8' ? (text) => text : (text) => text.replaceAll(/[^ -~]/g, '');
}
