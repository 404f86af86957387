import { type FileHandle, open } from 'node:fs/promises';
import type { State } from '../run/state.ts';
import { canonicalJson, type ManifestSource, type ObjectRef } from '../store/objects/manifest.ts';
import { isSealedWith } from '../store/seal/encryption.ts';
import type { RunContext } from './context.ts';

/** So much of two files is compared at a time, bytes. */
const CHUNK = 256 * 1024;

/** The documents of a source in its last snapshot that a new snapshot can name too. */
interface SameDocuments {
  index?: ObjectRef;
  facts?: ObjectRef;
}

/**
 * Returns the documents of the last snapshot that equal those of this run, so that nothing needs to be stored for an
 * unchanged source. They must be at the destination, undamaged, and encrypted with the present keys. The keys of the
 * packs show the latter: a snapshot uses only packs and documents of the same keys. A source without packs shares none.
 *
 * @param last the source in its last snapshot
 * @param now the facts and the plain index of this run
 */
export async function sameDocuments(
  { state, context }: { state: State; context: RunContext },
  name: string,
  last: ManifestSource | undefined,
  now: { facts: unknown; indexPath: string },
): Promise<SameDocuments> {
  const { stored, repository } = context;
  if (!stored || !last?.packs || !isSealedWith(last.packs, repository.keys)) return {};
  const damaged = await state.damaged();
  const isWhole = (ref: ObjectRef | undefined): ref is ObjectRef =>
    ref !== undefined && stored.has(ref) && !damaged.includes(ref.key);
  const same: SameDocuments = {};
  if (isWhole(last.facts)) {
    const facts = await state.cachedFacts(name, last.facts.sha256);
    if (facts !== undefined && canonicalJson(facts) === canonicalJson(now.facts)) same.facts = last.facts;
  }
  if (isWhole(last.index)) {
    const index = await state.cachedIndex(name, last.index.sha256);
    if (index !== undefined && (await haveSameContent(index, now.indexPath))) same.index = last.index;
  }
  return same;
}

async function haveSameContent(a: string, b: string): Promise<boolean> {
  const one = await open(a);
  try {
    const other = await open(b);
    try {
      return await areEqual(one, other);
    } finally {
      await other.close();
    }
  } finally {
    await one.close();
  }
}

async function areEqual(one: FileHandle, other: FileHandle): Promise<boolean> {
  const [{ size }, { size: otherSize }] = await Promise.all([one.stat(), other.stat()]);
  if (size !== otherSize) return false;
  const [left, right] = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)];
  for (let at = 0; at < size; ) {
    const read = await Promise.all([one.read(left, 0, CHUNK, at), other.read(right, 0, CHUNK, at)]);
    const length = Math.min(...read.map(({ bytesRead }) => bytesRead));
    if (length === 0 || !left.subarray(0, length).equals(right.subarray(0, length))) return false;
    at += length;
  }
  return true;
}
