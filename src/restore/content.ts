import { statfs } from 'node:fs/promises';
import { LifeboatError } from '../base/errors.ts';
import { formatBoth } from '../report/format.ts';
import { freeDataSpace } from '../sources/postgres/facts/disk.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import { type ObjectRef, withKeyId } from '../store/objects/manifest.ts';
import type { RestoreContext, RestorePreview, RestoreRequest } from './context.ts';
import { fetchIndex } from './fetch.ts';

/** Reads the recorded facts of a Postgres source. @throws OBJECT_MISSING, OBJECT_DAMAGED */
export async function readFacts(
  request: Pick<RestoreRequest, 'source'>,
  { entry, repository, snapshot }: RestoreContext,
): Promise<PostgresFacts> {
  if (entry.facts) return (await repository.readFacts(withKeyId(entry.facts, entry))) as PostgresFacts;
  throw new LifeboatError('OBJECT_MISSING', `snapshot ${snapshot.id} has no facts of ${request.source}`);
}

/** The files of a source's tree that a restore fetches into the spool. */
interface Content {
  /** total size */
  bytes: number;
  files: number;
  packs: ObjectRef[];
}

/** Finds the files of a source's tree that globs select, and the packs that hold them. */
export async function selectedContent(
  request: Pick<RestoreRequest, 'source' | 'signal'>,
  context: RestoreContext,
  select: string[],
): Promise<Content> {
  if (select.length === 0) return { bytes: 0, files: 0, packs: [] };
  const file = await fetchIndex(request, context);
  const selected = selectByGlobs(select);
  const packs = new Set<string>();
  let bytes = 0;
  let files = 0;
  for await (const line of readIndexFileLines(file)) {
    if ((line.type !== 'file' && line.type !== 'part') || !selected(line.path, false)) continue;
    if (line.type === 'file') {
      bytes += line.size ?? 0;
      files += 1;
    }
    if (line.pack !== undefined) packs.add(line.pack);
  }
  return { bytes, files, packs: context.packs.filter(({ id }) => packs.has(id)) };
}

/** Space of a file in addition to its content, at most: its last block. Bytes. */
const FILE_OVERHEAD = 4096;

/** So much of the spool a drill leaves to backups and to received WAL, bytes; at most a tenth of the spool. */
const DRILL_RESERVE = 1024 ** 3;

/**
 * Checks that the spool has room for the files, which are stored there uncompressed.
 *
 * @param work that needs the room. A drill can wait, so it leaves a reserve to what cannot
 * @throws SPOOL_FULL
 */
export async function roomInSpool(
  { directory }: Pick<RestoreContext, 'directory'>,
  { bytes, files }: Pick<Content, 'bytes' | 'files'>,
  work: 'restore' | 'drill' = 'restore',
): Promise<NonNullable<RestorePreview['spool']>> {
  const { bavail, blocks, bsize } = await statfs(directory);
  const reserve = work === 'drill' ? Math.min(DRILL_RESERVE, (blocks * bsize) / 10) : 0;
  const [free, needed] = [bavail * bsize, bytes + files * FILE_OVERHEAD + reserve];
  if (needed > free) throw spoolTooSmall({ needed, free }, `the ${work}`);
  return { needed, free };
}

/** The error for a spool without room for a restore, which `what` names. `hint`: another way out. */
export function spoolTooSmall(
  { needed, free }: NonNullable<RestorePreview['spool']>,
  what: string,
  hint = '',
): LifeboatError {
  const [has, needs] = formatBoth(free, needed);
  return new LifeboatError('SPOOL_FULL', `the spool has ${has} free, and ${what} needs ${needs} there`, {
    hint: `Free space on the disk of the volume mounted at /spool, or mount a larger one there.${hint} Nothing was changed.`,
  });
}

/**
 * Checks that the file system of a server's data has enough free space.
 *
 * @param needed bytes
 * @param why what needs the space, for the message
 * @throws PG_NO_SPACE
 */
export async function checkDataSpace(
  tools: Tools,
  { needed, why }: { needed: number; why: string },
  signal: AbortSignal,
): Promise<NonNullable<RestorePreview['space']>> {
  const free = await freeDataSpace(tools, signal);
  if (free === undefined || free >= needed) return { where: tools.container, needed, free };
  const [has, needs] = formatBoth(free, needed);
  throw new LifeboatError('PG_NO_SPACE', `${tools.container} has ${has} free, ${why} needs ${needs}`, {
    hint: 'Free space first: `lifeboat status` shows the data that earlier restores put aside. Nothing was changed.',
  });
}
