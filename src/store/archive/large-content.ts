import { createHash } from 'node:crypto';
import { filled, rangesText } from '../filesystem/data-ranges.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import type { PackCache } from '../packs/pack-cache.ts';
import type { PackRef } from '../packs/pack-stream.ts';
import { wrongContent } from './content-errors.ts';

/** The content of large files, as an export writes it. */

/** Yields `count` parts: the first one, then the next ones of `rest`, which stays open. */
export async function* following(
  first: IndexPart | undefined,
  rest: AsyncGenerator<IndexPart>,
  count: number,
): AsyncGenerator<IndexPart> {
  if (first) yield first;
  for (let i = 1; i < count; i++) {
    const { value, done } = await rest.next();
    if (done) return;
    yield value;
  }
}

/** Yields the data of parts. */
export async function* readParts(
  packs: PackCache,
  parts: AsyncIterable<IndexPart>,
  signal?: AbortSignal,
): AsyncGenerator<Buffer> {
  for await (const part of parts) {
    signal?.throwIfAborted();
    yield await packs.read(part);
  }
}

export async function* none(): AsyncGenerator<Buffer> {}

/**
 * Yields the whole content of a file from its stored data. Throws OBJECT_DAMAGED at its end if it is not the content
 * that was stored. `heard` is called with the number of bytes.
 */
export async function* verified(
  { ranges, size = 0, sha256 }: IndexEntry,
  stored: AsyncIterable<Buffer>,
  heard: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  const hashing = createHash('sha256');
  async function* hashed(): AsyncGenerator<Buffer> {
    for await (const chunk of stored) {
      hashing.update(chunk);
      yield chunk;
    }
  }
  for await (const chunk of ranges ? filled(hashed(), ranges, size) : hashed()) {
    heard(chunk.length);
    yield chunk;
  }
  if (ranges) hashing.update(rangesText(ranges));
  if (hashing.digest('hex') !== sha256) throw wrongContent();
}

/** Returns whether a pack is compressed. Its files are then worth compressing in the archive too. */
export function isCompressed({ key }: PackRef): boolean {
  return /\.zip\.zst(\.|$)/.test(key);
}
