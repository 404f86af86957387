import { unlessAborted } from '../base/abort.ts';
import type { RunReport, SourceReport } from '../report/events.ts';
import type { NamedStored, Stored } from '../report/last-good.ts';
import { type LastGood, lastGoodOf, lastGoodReport } from '../run/history.ts';
import { documentsOfEntry } from '../store/objects/manifest.ts';
import { withListsOf } from '../store/repository/pack-lists.ts';
import type { Prepared, Run } from './begin.ts';
import type { BackupDeps } from './context.ts';

/** A run that has failed looks at the destination for this time, milliseconds. */
const LOOK_MS = 10_000;

/** The destination as a failed run knows it. */
type Known = Pick<Prepared, 'repository' | 'list'>;

/** Returns the last good snapshots of the sources that a run did not reach, if it failed as a whole. */
export async function findSafe(
  deps: Pick<BackupDeps, 'look' | 'state'>,
  { error, snapshot, sources, results }: RunReport,
  { prepared }: Pick<Run, 'prepared'>,
  signal: AbortSignal,
): Promise<RunReport['safe']> {
  if (!error || snapshot !== undefined) return undefined;
  const failed = new Set(results.filter(({ status }) => status === 'failed').map(({ name }) => name));
  const names = sources.filter((name) => !failed.has(name));
  if (names.length === 0) return undefined;
  // Nothing answers, so asking again would only delay the report.
  const isAway = error.code === 'DEST_UNREACHABLE' || signal.aborted;
  const limit = isAway ? AbortSignal.abort() : AbortSignal.timeout(LOOK_MS);
  const known = prepared ?? (isAway ? undefined : await lookWithin(deps, limit));
  if (!known) return undefined;
  const manifests = known.list.snapshots.map(({ manifest }) => manifest);
  const all = names.map((name) => ({ name, lastGood: lastGoodOf(manifests, name) }));
  const damaged = await findDamaged(deps, known, { all, limit });
  const found = all.map(({ name, lastGood }): NamedStored => {
    if (!lastGood) return { name };
    const isDamaged = documentsOfEntry(lastGood.entry).some(({ key }) => damaged.has(key));
    return { name, lastGood: { ...lastGoodReport(lastGood), ...(isDamaged ? { damaged: true } : {}) } };
  });
  return withUnusable(found, known.list.damaged.length);
}

async function lookWithin({ look }: Pick<BackupDeps, 'look'>, limit: AbortSignal): Promise<Known | undefined> {
  const open = async (): Promise<Known | undefined> => {
    const repository = await look();
    return repository && { repository, list: await repository.snapshots(limit) };
  };
  return unlessAborted(open(), limit).catch(() => undefined);
}

/** Returns the keys of damaged objects, and of the lists of packs that name one of them, as far as they are known. */
async function findDamaged(
  { state }: Pick<BackupDeps, 'state'>,
  { repository }: Known,
  { all, limit }: { all: readonly { lastGood: LastGood | undefined }[]; limit: AbortSignal },
): Promise<ReadonlySet<string>> {
  const keys = await state.damaged().catch(() => []);
  const entries = all.flatMap(({ lastGood }) => lastGood?.entry ?? []);
  const find = limit.aborted
    ? keys
    : await unlessAborted(withListsOf(repository, entries, keys, limit), limit).catch(() => keys);
  return new Set(find);
}

/**
 * Adds the number of unusable snapshots to each source of which no usable snapshot is known, because one of them may
 * hold it.
 */
export function withUnusable<T extends Stored & { status?: SourceReport['status'] }>(
  all: readonly T[],
  unusable: number,
): T[] {
  return all.map((one) => (unusable > 0 && !one.lastGood && one.status !== 'ok' ? { ...one, unusable } : one));
}
