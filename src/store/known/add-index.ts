import { createReadStream } from 'node:fs';
import { decodeIndexEntry } from '../filesystem/index-file.ts';
import { decodePart, isPartLine } from '../filesystem/index-part.ts';
import { PACK_KEY, readLines, valueAfter } from '../filesystem/read-index.ts';
import type { ContentTable } from './content-table.ts';
import type { Fact } from './fact.ts';

interface AddOptions {
  /** returns whether to add the contents of a pack, given by ID; absent: of all packs */
  isWanted?(pack: string): boolean;
  /** returns whether the contents of a pack keep their place there */
  isKept(pack: string): boolean;
  signal?: AbortSignal;
}

/**
 * Adds the contents of an index to a table. Replaces earlier places of these contents, except those in packs that keep
 * them.
 *
 * @param indexPath the index as a plain local file
 * @throws the signal's reason
 */
export async function addIndex(
  table: ContentTable,
  indexPath: string,
  { isWanted, isKept, signal }: AddOptions,
): Promise<void> {
  for await (const line of readLines(createReadStream(indexPath, { highWaterMark: 256 * 1024 }))) {
    signal?.throwIfAborted();
    const pack = valueAfter(line, PACK_KEY, 32);
    if (pack === undefined || isWanted?.(pack) === false) continue;
    const fact = factOf(line);
    if (fact) await table.add(fact, isKept);
  }
}

function factOf(line: Buffer): Fact | undefined {
  const isPart = isPartLine(line);
  const { sha256, size, pack, entry } = isPart ? decodePart(line) : decodeIndexEntry(line);
  if (sha256 === undefined || size === undefined || pack === undefined || entry === undefined) return undefined;
  return { kind: isPart ? 'part' : 'file', sha256, size, pack, entry };
}
