import { rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasCode, hasErrno } from '../base/errors.ts';
import { lastStoredOf } from '../run/history.ts';
import type { State } from '../run/state.ts';
import { mayBeRenewed, type RenewalRule } from '../store/content/repack.ts';
import { addIndex } from '../store/known/add-index.ts';
import { ContentTable } from '../store/known/content-table.ts';
import { KnownPacks } from '../store/known/known-packs.ts';
import { type Manifest, type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import { isDamage } from '../store/repository/damage.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import { isSealedWith, requireKeys } from '../store/seal/encryption.ts';
import { addCommitted, type Known, shareStored } from './add-contents.ts';
import type { KnownByRun, RunContext } from './context.ts';
import { listNamedPacks, type NamedPacks } from './named-packs.ts';

/** One run reads at most this many stored indexes to make the table again; later runs read the others. */
const MAX_INDEXES = 100;
/** The same, in bytes as stored. */
const MAX_INDEX_BYTES = 256 * 1024 * 1024;
/** Next to the table: the packs that the last run could not use. */
const OTHERS = '.others';

interface Given {
  state: State;
  context: RunContext;
  /** when the content of packs is stored again */
  renewal: RenewalRule;
  /** a directory of the run in the spool */
  directory: string;
}

/**
 * Lists the packs that kept snapshots need and that may be used, and brings the table of contents up to date. Never
 * rejects: without it, a run knows only the contents of a source's last snapshot.
 */
export async function prepareKnown(given: Given): Promise<KnownByRun | undefined> {
  const { state, context } = given;
  const { repository, log, stored } = context;
  if (!stored) return undefined;
  // An unsigned snapshot may be forged, so no signed one builds on it.
  const reusable = context.snapshots.filter(({ unsigned }) => !unsigned).map(({ manifest }) => manifest);
  const table = path.join(state.directory, 'contents');
  const of = `${repository.info.id} ${repository.project}`;
  const failed = (error: unknown): undefined => {
    context.signal.throwIfAborted();
    log.warn('the contents of earlier snapshots are not known, so some may be stored again', { ...errorInfo(error) });
  };
  let named: NamedPacks;
  let packs: KnownPacks;
  let indexes: Map<string, string | Error>;
  try {
    const last = lastEntries(context, reusable);
    const measured = await packsToMeasure(given, last);
    named = await listNamedPacks({ ...given, reusable, before: table + OTHERS, measured });
    indexes = await fetchIndexes(given, last);
    packs = await KnownPacks.open(named.usable);
  } catch (error) {
    // The destination or the spool: nothing is wrong with the table. With only public keys, it could not be made again.
    return failed(error);
  }
  const known: Known = { table, of, packs, usable: named.usable };
  const shared = new Set<string>();
  try {
    const covered = await updateTable(given, reusable, { ...known, ...named, indexes });
    return {
      ...{ table, of, packs: named.usable },
      isCovered: (index) => covered.has(index),
      ...(named.use ? { use: named.use } : {}),
      indexes,
      shared,
      async share(source, file, stored) {
        // Whatever happens then: a later source may use its packs.
        shared.add(source);
        await shareStored(known, file, stored).catch((error: unknown) =>
          log.warn('other sources do not know what this source has stored', { source, ...errorInfo(error) }),
        );
      },
      add: async (file, index) => addCommitted(known, file, index),
    };
  } catch (error) {
    failed(error);
    // A full disk says nothing about the table.
    if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) await rm(table, { recursive: true, force: true }).catch(() => undefined);
    return undefined;
  }
}

/** Returns the last entries of the sources that the run stores, by their names. */
function lastEntries({ run }: RunContext, reusable: readonly Manifest[]): Map<string, ManifestSource> {
  const entries = run.sources.map((name) => [name, lastStoredOf(reusable, name)?.entry] as const);
  return new Map(entries.flatMap(([name, entry]) => (entry ? [[name, entry]] : [])));
}

/** Returns the ids of the packs of which the run may store the content again. A restore waits for a safety snapshot. */
async function packsToMeasure(
  { context: { repository, run, signal }, renewal }: Given,
  last: ReadonlyMap<string, ManifestSource>,
): Promise<Set<string>> {
  const ids = new Set<string>();
  if (run.trigger === 'safety') return ids;
  for (const entry of last.values()) {
    try {
      for (const { id } of mayBeRenewed(await readPacks(repository, entry, signal), renewal)) ids.add(id);
    } catch (error) {
      // The source itself reports it.
      if (!isDamage(error)) throw error;
    }
  }
  return ids;
}

/**
 * Fetches the last indexes that are not cached, which the run compares its trees with. One that only an outage keeps
 * from being fetched is not in the result.
 */
async function fetchIndexes(
  { state, context: { repository, signal }, directory }: Given,
  last: ReadonlyMap<string, ManifestSource>,
): Promise<Map<string, string | Error>> {
  const indexes = new Map<string, string | Error>();
  for (const [source, entry] of last) {
    const { index } = entry;
    if (!index || indexes.has(index.sha256) || (await state.cachedIndex(source, index.sha256))) continue;
    const file = path.join(directory, `${source}.ndjson`);
    try {
      await repository.fetchIndex(withKeyId(index, entry), file, signal);
      indexes.set(index.sha256, file);
    } catch (error) {
      signal.throwIfAborted();
      // After a brief outage, the source itself can fetch it.
      if (isDamage(error) || hasCode(error, 'KEY_MISSING', 'KEY_WRONG')) indexes.set(index.sha256, error);
    }
  }
  return indexes;
}

/**
 * Adds the indexes of kept snapshots that the table lacks. Returns all indexes that it covers.
 *
 * @throws only errors of the table itself, and the signal's reason
 */
async function updateTable(
  { state, context, directory }: Given,
  reusable: readonly Manifest[],
  known: Known & Pick<NamedPacks, 'others' | 'hasReturned' | 'isIncomplete'> & Pick<KnownByRun, 'indexes'>,
): Promise<Set<string>> {
  const { repository, signal, run, log } = context;
  const covered = new Set<string>();
  let isChosen = false;
  const isUsable = (pack: string) => known.packs.has(pack);
  let table = await ContentTable.write(known.table, known.of, { signal });
  try {
    const entries = reusable.flatMap(({ sources }) => Object.entries(sources)).filter(([, entry]) => entry.index);
    table.coverOnly(new Set(entries.map(([, { index }]) => index?.sha256 ?? '')));
    if (!known.isIncomplete) ({ table, isChosen } = await compact(table, known, signal));
    let [left, bytes] = [MAX_INDEXES, MAX_INDEX_BYTES];
    for (const [source, entry] of entries) {
      const { index, packs } = entry;
      if (!index || table.isCovered(index.sha256)) continue;
      // A restore waits for a safety snapshot. Contents with other keys are of no use.
      if (run.trigger === 'safety' || !packs || !isSealedWith(packs, repository.keys)) continue;
      const fetched = known.indexes.get(index.sha256);
      if (fetched instanceof Error) continue;
      const cached = fetched ?? (await state.cachedIndex(source, index.sha256));
      if (!cached && (left === 0 || bytes < index.size || !isReadable(entry, context))) continue;
      const file = cached ?? path.join(directory, 'known.ndjson');
      try {
        if (!cached) {
          [left, bytes] = [left - 1, bytes - index.size];
          await repository.fetchIndex(withKeyId(index, entry), file, signal);
        }
        await addIndex(table, file, { isKept: isUsable, signal });
        table.cover(index.sha256);
      } catch (error) {
        signal.throwIfAborted();
        log.debug('an index could not be read', { source, ...errorInfo(error) });
      } finally {
        if (!cached) await rm(file, { force: true });
      }
    }
    for (const [, { index }] of entries) if (index && table.isCovered(index.sha256)) covered.add(index.sha256);
  } finally {
    await table.close();
  }
  // Else the next run finds the packs again that have returned.
  if (isChosen) await rename(known.others, known.table + OTHERS);
  return covered;
}

/** Removes the contents of packs that no kept snapshot names; all lists of such packs must have been read. */
async function compact(
  table: ContentTable,
  { packs, others: file, hasReturned }: Known & Pick<NamedPacks, 'others' | 'hasReturned'>,
  signal: AbortSignal,
): ReturnType<ContentTable['compacted']> {
  const others = await KnownPacks.open(file);
  const isUsable = (pack: string) => packs.has(pack);
  const isNamed = (pack: string) => isUsable(pack) || others.has(pack);
  return table.compacted({ isUsable, isNamed, mustChoose: hasReturned, signal });
}

function isReadable({ index }: ManifestSource, { repository }: RunContext): boolean {
  try {
    requireKeys([index], repository.keys);
    return true;
  } catch {
    return false;
  }
}
