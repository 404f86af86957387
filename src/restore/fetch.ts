import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import { CONFIG, SPOOL } from '../run/mounts.ts';
import type { ExtractedTree } from '../store/content/extract-tree.ts';
import type { RestoreContext, RestoreDeps, RestoreRequest } from './context.ts';
import { checkTargetDirectory } from './directory.ts';

/** Where in the agent nothing is restored to. */
export function keptDirectories({ repository }: RestoreContext): { directory: string; holds: string }[] {
  const { name } = repository.destination;
  return [
    { directory: SPOOL, holds: 'its spool' },
    { directory: CONFIG, holds: 'the files that are the source config' },
    ...(name.startsWith('/') ? [{ directory: name, holds: 'the backups' }] : []),
  ];
}

/** Brings the source's index to the spool of the restore. */
export async function fetchIndex(
  request: Pick<RestoreRequest, 'source' | 'signal'>,
  context: RestoreContext,
): Promise<string> {
  const { entry, repository } = context;
  if (!entry.index)
    throw new LifeboatError('OBJECT_MISSING', `snapshot ${context.snapshot.id} has no index of ${request.source}`);
  const indexPath = path.join(context.directory, `index-${randomUUID()}.ndjson`);
  await repository.fetchIndex(entry.index, indexPath, request.signal);
  return indexPath;
}

interface FetchTreeOptions {
  deps: RestoreDeps;
  request: RestoreRequest;
  context: RestoreContext;
  directory: string;
  select: string[];
}

/**
 * The selected paths of a source's tree (none selected: all) into a directory of the agent, which has to be empty: one of
 * the restore's own spool, or one that the user named. Throws TREE_TARGET_REFUSED for a bad choice.
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
      packs: context.entry.packs,
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
