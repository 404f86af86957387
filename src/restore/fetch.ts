import { randomUUID } from 'node:crypto';
import { rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import { formatBoth } from '../report/format.ts';
import { CONFIG, SPOOL } from '../run/mounts.ts';
import type { ExtractedTree } from '../store/content/extracted-tree.ts';
import { withKeyId } from '../store/objects/manifest.ts';
import type { PreparedRestore, RestoreContext, RestoreDeps, RestoreRequest } from './context.ts';
import { checkTargetDirectory } from './directory.ts';

/** Returns the directories of the agent into which nothing may be restored. */
export function keptDirectories({ repository }: RestoreContext): { directory: string; holds: string }[] {
  const { name } = repository.destination;
  return [
    { directory: SPOOL, holds: 'its spool' },
    { directory: CONFIG, holds: 'the files of the source config' },
    ...(name.startsWith('/') ? [{ directory: name, holds: 'the backups' }] : []),
  ];
}

/** Fetches the index of a source into the spool of the restore. @throws OBJECT_MISSING, OBJECT_DAMAGED */
export async function fetchIndex(
  request: Pick<RestoreRequest, 'source' | 'signal'>,
  context: RestoreContext,
): Promise<string> {
  const { entry, repository } = context;
  if (!entry.index)
    throw new LifeboatError('OBJECT_MISSING', `snapshot ${context.snapshot.id} has no index of ${request.source}`);
  const indexPath = path.join(context.directory, `index-${randomUUID()}.ndjson`);
  await repository.fetchIndex(withKeyId(entry.index, entry), indexPath, request.signal);
  return indexPath;
}

interface FetchTreeOptions {
  deps: RestoreDeps;
  request: Pick<RestoreRequest, 'source' | 'signal'>;
  context: RestoreContext;
  directory: string;
  select: string[];
}

/**
 * Fetches paths of a source's tree into an empty directory of the agent: one in the spool of the restore, or one that
 * the user named. With an empty `select`, fetches all paths.
 *
 * @throws TREE_TARGET_REFUSED for an unsuitable directory
 */
export async function fetchTree({
  deps,
  request,
  context,
  directory,
  select,
}: FetchTreeOptions): Promise<ExtractedTree> {
  const own = directory.startsWith(`${context.directory}/`);
  if (!own) await checkTargetDirectory(directory, deps.agentMounts, keptDirectories(context));
  const indexPath = await fetchIndex(request, context);
  try {
    return await deps.treeStore.extract({
      indexPath,
      packs: context.packs,
      target: directory,
      select,
      spool: context.directory,
      reach: { kind: own ? 'here' : 'process' },
      runId: context.id,
      journal: context.journal.file,
      signal: request.signal,
      progress: context.progress,
    });
  } finally {
    await rm(indexPath, { force: true });
  }
}

/**
 * Prepares a restore of the dump itself to a directory, for `pg_restore` by hand.
 *
 * @throws TREE_TARGET_FULL if the dump does not fit there
 */
export async function prepareDump(
  fetch: FetchTreeOptions & { request: Pick<RestoreRequest, 'say'> },
): Promise<PreparedRestore> {
  const { request, context, directory } = fetch;
  const { bytes } = context.entry;
  const free = await freeAt(directory);
  if (bytes > free) {
    const [has, needs] = formatBoth(free, bytes);
    throw new LifeboatError('TREE_TARGET_FULL', `${directory} has ${has} free, and the dump needs ${needs} there`, {
      hint: 'Free space there, or name a directory on a larger disk. Nothing was changed.',
    });
  }
  const space = { where: directory, needed: bytes, free };
  return {
    preview: { replaces: [], creates: [directory], left: [], bytes, space, notes: [] },
    async swap() {
      const { files, bytes } = await fetchTree(fetch);
      request.say(`  the dump is in ${directory}: one pg_dump directory for each database, and globals.sql`);
      return { restored: [{ target: directory, files, bytes }], warnings: [] };
    },
    close: async () => undefined,
  };
}

/** Returns the free space for a directory that may not exist yet, bytes. */
async function freeAt(directory: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT') || path.dirname(directory) === directory) throw error;
    return freeAt(path.dirname(directory));
  }
}
