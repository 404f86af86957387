import { LifeboatError } from '../base/errors.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import type { ObjectRef } from '../store/objects/manifest.ts';
import type { RestoreContext, RestoreRequest } from './context.ts';
import { fetchIndex } from './fetch.ts';

/** Reads the recorded facts of a Postgres source. @throws OBJECT_MISSING, OBJECT_DAMAGED */
export async function readFacts(
  request: Pick<RestoreRequest, 'source'>,
  { entry, repository, snapshot }: RestoreContext,
): Promise<PostgresFacts> {
  if (entry.facts) return (await repository.readFacts(entry.facts)) as PostgresFacts;
  throw new LifeboatError('OBJECT_MISSING', `snapshot ${snapshot.id} has no facts of ${request.source}`);
}

/** Finds the files of a source's tree that globs select: their total size in bytes, and the packs that hold them. */
export async function selectedContent(
  request: Pick<RestoreRequest, 'source' | 'signal'>,
  context: RestoreContext,
  select: string[],
): Promise<{ bytes: number; packs: ObjectRef[] }> {
  if (select.length === 0) return { bytes: 0, packs: [] };
  const file = await fetchIndex(request, context);
  const selected = selectByGlobs(select);
  const packs = new Set<string>();
  let bytes = 0;
  for await (const line of readIndexFileLines(file)) {
    if ((line.type !== 'file' && line.type !== 'part') || !selected(line.path, false)) continue;
    if (line.type === 'file') bytes += line.size ?? 0;
    if (line.pack !== undefined) packs.add(line.pack);
  }
  return { bytes, packs: context.entry.packs.filter(({ id }) => packs.has(id)) };
}
