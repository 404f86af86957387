import { lstat, open, opendir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError, toLifeboatError } from '../../../base/errors.ts';
import { plural } from '../../../report/format.ts';
import { READ_FLAGS } from '../../../store/filesystem/read-file.ts';
import { removePath } from '../../../store/filesystem/remove-tree.ts';
import type { MissingDatabase } from '../facts/databases.ts';
import type { DumpCompression } from '../server/commands.ts';
import { databaseDirectory } from '../server/quote.ts';
import { GLOBALS } from './dump-globals.ts';
import { DATABASES } from './dump-server.ts';
import { dropDumpTime, settleRestrictKey } from './equal-dumps.ts';
import { hasWholeFrames } from './zstd-frames.ts';

/** A database whose dump succeeded. */
interface Dump {
  name: string;
  /** ids of the entries in its table of contents */
  dumpIds: ReadonlySet<number>;
  /** the size of all its large objects, bytes; absent: unknown */
  largeObjectBytes?: number | undefined;
}

interface DumpedServer {
  /** root of the tree */
  root: string;
  dumps: readonly Dump[];
  /** databases whose dumps failed: files that remain of them are removed without a warning */
  failed: readonly string[];
  compression: DumpCompression;
  signal: AbortSignal;
}

/** The databases that cannot be stored, and warnings about other files. */
interface Refusals {
  refused: MissingDatabase[];
  warnings: string[];
}

/**
 * Removes everything from a tree that is not part of a sound dump. The image of the database writes the tree, and may
 * be hostile or broken. A database whose directory holds other files than its table of contents names, or files that
 * are not what their compression says, is removed as a whole. Call this once no helper can change the tree.
 *
 * Leaves links and special files outside the directories of databases: they are for `refuseStrangeFiles`.
 *
 * @throws the error of a file that cannot be removed
 */
export async function refuseUnsoundDumps(server: DumpedServer): Promise<Refusals> {
  const { root, dumps, failed, signal } = server;
  const refused: MissingDatabase[] = [];
  const surplus = await removeSurplus(root, '', (name) => name === GLOBALS || name === DATABASES);
  if (await isPlainFile(root, GLOBALS)) await settleRestrictKey(path.join(root, GLOBALS));
  // If this is no directory, the tree is refused later.
  const parent = (await isDirectory(root, DATABASES)) ? path.join(root, DATABASES) : undefined;
  if (!parent) return { refused, warnings: warnOf(surplus) };
  const known = new Set(dumps.map(({ name }) => databaseDirectory(name)));
  for (const name of failed) if (!known.has(databaseDirectory(name))) await removePath(parent, databaseDirectory(name));
  surplus.push(...(await removeSurplus(parent, `${DATABASES}/`, (name) => known.has(name))));
  for (const dump of dumps) {
    try {
      await checkDump(parent, dump, server);
    } catch (error) {
      signal.throwIfAborted();
      await removePath(parent, databaseDirectory(dump.name));
      refused.push({ name: dump.name, error: toLifeboatError(error) });
    }
  }
  return { refused, warnings: warnOf(surplus) };
}

/** Removes plain files and directories that do not belong in a directory. Returns their paths in the tree. */
async function removeSurplus(parent: string, prefix: string, belongs: (name: string) => boolean): Promise<string[]> {
  const removed: string[] = [];
  for (const entry of await readdir(parent, { withFileTypes: true })) {
    if (belongs(entry.name) || !(entry.isFile() || entry.isDirectory())) continue;
    await removePath(parent, entry.name);
    removed.push(prefix + entry.name);
  }
  return removed;
}

function warnOf([first, ...more]: readonly string[]): string[] {
  if (first === undefined) return [];
  const others = more.length === 0 ? 'which' : `and ${plural(more.length, 'other')}, which`;
  const belong = more.length === 0 ? 'does' : 'do';
  return [
    `not stored: the tools in the image of the database left ${JSON.stringify(first)} ${others} ${belong} not belong in a dump`,
  ];
}

async function isDirectory(parent: string, name: string): Promise<boolean> {
  const entries = await readdir(parent, { withFileTypes: true });
  return entries.some((entry) => entry.name === name && entry.isDirectory());
}

async function isPlainFile(parent: string, name: string): Promise<boolean> {
  return (await readdir(parent, { withFileTypes: true })).some((entry) => entry.name === name && entry.isFile());
}

/** @throws PG_DUMP_FAILED for a file that does not belong in the dump; PG_DUMP_INCOMPLETE */
async function checkDump(parent: string, dump: Dump, { compression, signal }: DumpedServer): Promise<void> {
  const { name, dumpIds, largeObjectBytes } = dump;
  const fail = (what: string, code: 'PG_DUMP_FAILED' | 'PG_DUMP_INCOMPLETE' = 'PG_DUMP_FAILED') =>
    new LifeboatError(code, `the dump of ${name} ${what}`, { hint: HINT });
  const directory = path.join(parent, databaseDirectory(name));
  if (!(await isDirectory(parent, databaseDirectory(name)))) throw fail('is not a directory');
  const lists: string[] = [];
  let [largeObjects, bytes] = [0, 0];
  for await (const entry of await opendir(directory)) {
    const shown = JSON.stringify(entry.name);
    const kind = kindOf(entry.name, dumpIds, compression);
    if (!entry.isFile()) throw fail(`holds ${shown}, which is ${describeType(entry)}`);
    if (!kind) throw fail(`holds ${shown}, which its table of contents does not name`);
    const file = path.join(directory, entry.name);
    if (kind === 'contents') {
      if ((await lstat(file)).size > MAX_CONTENTS) throw fail('has a huge table of contents');
      await dropDumpTime(file);
    }
    if (kind === 'list') lists.push(file);
    if (kind === 'large object') {
      largeObjects++;
      bytes += (await lstat(file)).size;
    }
    const damage = await findDamage(file, kind, compression, signal);
    if (damage) throw fail(`is damaged: ${shown} ${damage}`, 'PG_DUMP_INCOMPLETE');
  }
  const named = await countNamed(lists, largeObjects);
  const more = largeObjects - named;
  if (more > 0) throw fail(`holds ${plural(more, 'large object')} more than its table of contents names`);
  if (more < 0) throw fail(`is incomplete: it lacks large objects`, 'PG_DUMP_INCOMPLETE');
  // Without compression, nothing marks the end of a large object.
  if (compression === 'none' && largeObjectBytes !== undefined && bytes !== largeObjectBytes) {
    const has = `its large objects have ${plural(bytes, 'byte')}, and ${largeObjectBytes} in the database`;
    throw fail(`is damaged: ${has}`, 'PG_DUMP_INCOMPLETE');
  }
}

/**
 * Returns what is wrong with a file of data, as the end of a sentence. With zstd, only an empty large object has no
 * frame. Without, a large object may end anywhere: see {@link checkDump}.
 */
async function findDamage(
  file: string,
  kind: FileKind,
  compression: DumpCompression,
  signal: AbortSignal,
): Promise<string | undefined> {
  if (kind === 'contents' || kind === 'list') return undefined;
  if (compression === 'none')
    return kind === 'large object' || (await hasEndMarker(file)) ? undefined : 'lacks the end of its rows';
  if (kind === 'large object' && (await lstat(file)).size === 0) return undefined;
  return (await hasWholeFrames(file, signal)) ? undefined : 'is not a complete zstd file';
}

/** `pg_dump` writes this after the rows of a table (dumpTableData_copy in pg_dump.c). */
const END_MARKER = Buffer.from('\\.\n\n\n');

async function hasEndMarker(file: string): Promise<boolean> {
  const handle = await open(file, READ_FLAGS);
  try {
    const end = Buffer.alloc(END_MARKER.length);
    const { size } = await handle.stat();
    if (size < end.length) return false;
    await handle.read(end, 0, end.length, size - end.length);
    return end.equals(END_MARKER);
  } finally {
    await handle.close();
  }
}

/** The largest table of contents, bytes. A restore reads it into memory. 2 GiB. */
const MAX_CONTENTS = 2 ** 31;

/** The longest line of a list of large objects, bytes: `4294967295 blob_4294967295.dat` and a margin. */
const MAX_LINE = 64;

const HINT =
  'The pg_dump in the image of the database does not create such a dump. Check where the image comes from, and the disk of the spool.';

function describeType(entry: { isSymbolicLink(): boolean; isDirectory(): boolean }): string {
  if (entry.isSymbolicLink()) return 'a symbolic link';
  return entry.isDirectory() ? 'a directory' : 'not a plain file';
}

type FileKind = 'contents' | 'list' | 'rows' | 'large object';

/**
 * Returns the purpose of a file in a dump directory (pg_backup_directory.c); undefined if `pg_dump` does not create it.
 * Postgres 17 splits the list of large objects, `blobs.toc`, into one for each of their entries.
 */
function kindOf(name: string, dumpIds: ReadonlySet<number>, compression: DumpCompression): FileKind | undefined {
  if (name === 'toc.dat') return 'contents';
  if (name === 'blobs.toc') return 'list';
  const match = /^(?:(blobs_|blob_)?(\d+))\.(toc|dat)(\.zst)?$/.exec(name);
  if (!match) return undefined;
  const [, prefix = '', id, ending, zst] = match;
  if (ending === 'toc') return prefix === 'blobs_' && !zst && dumpIds.has(Number(id)) ? 'list' : undefined;
  if ((zst !== undefined) !== (compression === 'zstd')) return undefined;
  if (prefix === 'blob_') return 'large object';
  return prefix === '' && String(Number(id)) === id && dumpIds.has(Number(id)) ? 'rows' : undefined;
}

/**
 * Counts the lines of the lists of large objects, which are never compressed. Returns infinity without reading the
 * lists if they are too long for that many objects.
 */
async function countNamed(lists: readonly string[], largeObjects: number): Promise<number> {
  let bytes = 0;
  for (const file of lists) bytes += (await lstat(file)).size;
  if (bytes > largeObjects * MAX_LINE) return Number.POSITIVE_INFINITY;
  let lines = 0;
  for (const file of lists) {
    const handle = await open(file, READ_FLAGS);
    for await (const chunk of handle.createReadStream()) {
      for (const byte of chunk as Buffer) if (byte === 0x0a) lines++;
    }
  }
  return lines;
}
