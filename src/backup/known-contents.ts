import { closeSync, openSync, writeFileSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import type { State } from '../run/state.ts';
import { addIndex } from '../store/known/add-index.ts';
import { ContentTable } from '../store/known/content-table.ts';
import { KnownPacks } from '../store/known/known-packs.ts';
import { KeySet } from '../store/objects/key-set.ts';
import { type ListedPack, type Manifest, type ManifestSource, withKeyId } from '../store/objects/manifest.ts';
import { encodePackList } from '../store/objects/pack-list.ts';
import { listsOf, visitPacks } from '../store/repository/pack-lists.ts';
import { isSealedWith, requireKeys } from '../store/seal/encryption.ts';
import type { CommittedIndex, KnownByRun, RunContext } from './context.ts';

/** One run reads at most this many stored indexes to make the table again; later runs read the others. */
const MAX_INDEXES = 100;
/** The same, in bytes as stored. */
const MAX_INDEX_BYTES = 256 * 1024 * 1024;
/** So many packs are written to the file at once. */
const LINES_AT_ONCE = 500;

interface Given {
  state: State;
  context: RunContext;
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
  try {
    const packs = await listPacks(given, reusable);
    const known = { table, of, packs: await KnownPacks.open(packs) };
    const covered = await updateTable(given, reusable, known);
    return {
      ...{ table, of, packs },
      isCovered: (index) => covered.has(index),
      add: async (file, index) => addCommitted(known, file, index),
    };
  } catch (error) {
    context.signal.throwIfAborted();
    log.warn('the contents of earlier snapshots are not known, so some may be stored again', { ...errorInfo(error) });
    await rm(table, { recursive: true, force: true }).catch(() => undefined);
    return undefined;
  }
}

/** Writes the packs that the run may use to a file, and returns its path. */
async function listPacks({ state, context, directory }: Given, reusable: readonly Manifest[]): Promise<string> {
  const { repository, stored, signal } = context;
  const damaged = new Set(await state.damaged());
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const file = path.join(directory, 'packs.ndjson');
  const handle = openSync(file, 'w', 0o600);
  const ids = new KeySet();
  let lines: Buffer[] = [];
  const flush = () => {
    writeFileSync(handle, Buffer.concat(lines));
    lines = [];
  };
  const take = (pack: ListedPack) => {
    if (!isSealedWith(pack, repository.keys) || damaged.has(pack.key) || !stored?.has(pack)) return;
    // Lists differ in how much of a pack their snapshots use.
    if (ids.has(pack.id)) return;
    ids.add(pack.id);
    if (lines.push(encodePackList([{ ...pack, used: undefined }])) >= LINES_AT_ONCE) flush();
  };
  try {
    await visitPacks(repository, listsOf(reusable), take, signal);
    flush();
  } finally {
    closeSync(handle);
  }
  return file;
}

interface Known {
  table: string;
  of: string;
  packs: KnownPacks;
}

/** Adds the indexes of kept snapshots that the table lacks. Returns all indexes that it covers. */
async function updateTable(
  { state, context, directory }: Given,
  reusable: readonly Manifest[],
  known: Known,
): Promise<Set<string>> {
  const { repository, signal, run, log } = context;
  const covered = new Set<string>();
  let table = ContentTable.write(known.table, known.of);
  try {
    const entries = reusable.flatMap(({ sources }) => Object.entries(sources)).filter(([, entry]) => entry.index);
    table.coverOnly(new Set(entries.map(([, { index }]) => index?.sha256 ?? '')));
    table = table.compacted((pack) => known.packs.has(pack));
    let [left, bytes] = [MAX_INDEXES, MAX_INDEX_BYTES];
    for (const [source, entry] of entries) {
      const { index, packs } = entry;
      if (!index || table.isCovered(index.sha256)) continue;
      // A restore waits for a safety snapshot. Contents with other keys are of no use.
      if (run.trigger === 'safety' || !packs || !isSealedWith(packs, repository.keys)) continue;
      const cached = await state.cachedIndex(source, index.sha256);
      if (!cached && (left === 0 || bytes < index.size || !isReadable(entry, context))) continue;
      const file = cached ?? path.join(directory, 'known.ndjson');
      try {
        if (!cached) {
          [left, bytes] = [left - 1, bytes - index.size];
          await repository.fetchIndex(withKeyId(index, entry), file, signal);
        }
        await addIndex(table, file, (pack) => known.packs.has(pack));
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
    table.close();
  }
  return covered;
}

function isReadable({ index }: ManifestSource, { repository }: RunContext): boolean {
  try {
    requireKeys([index], repository.keys);
    return true;
  } catch {
    return false;
  }
}

/** Adds the contents of a committed index: only those in new packs, if the table has the others. */
async function addCommitted(
  { table: directory, of, packs: known }: Known,
  file: string,
  { sha256, packs, isBasedOnTable }: CommittedIndex,
): Promise<void> {
  const table = ContentTable.write(directory, of);
  try {
    const wanted = packs.filter(({ id }) => !isBasedOnTable || !known.has(id));
    const ids = new Set(wanted.map(({ id }) => id));
    if (ids.size > 0) await addIndex(table, file, (pack) => ids.has(pack));
    table.cover(sha256);
  } finally {
    table.close();
  }
}
