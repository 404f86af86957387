import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { State } from '../run/state.ts';
import { canonicalJson, type ManifestSource, type ObjectRef } from '../store/objects/manifest.ts';
import { isSealedWith } from '../store/seal/encryption.ts';
import type { RunContext } from './context.ts';

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
  const [one, other] = await Promise.all([stat(a), stat(b)]);
  if (one.size !== other.size) return false;
  const options = { highWaterMark: 256 * 1024 };
  const others = createReadStream(b, options)[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(a, options) as AsyncIterable<Buffer>) {
    while (rest.length < chunk.length) {
      const { value, done } = await others.next();
      if (done) return false;
      rest = Buffer.concat([rest, value as Buffer]);
    }
    if (!rest.subarray(0, chunk.length).equals(chunk)) {
      await others.return?.();
      return false;
    }
    rest = rest.subarray(chunk.length);
  }
  return true;
}
