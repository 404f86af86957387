import { createReadStream } from 'node:fs';
import { decodeIndexEntry } from '../filesystem/index-file.ts';
import { decodePart, isPartLine } from '../filesystem/index-part.ts';
import { PACK_KEY, readLines, valueAfter } from '../filesystem/read-index.ts';
import type { ContentTable } from './content-table.ts';
import type { Fact } from './fact.ts';

/**
 * Adds the contents of an index that are in some packs to a table. Replaces earlier places of these contents in other
 * packs.
 *
 * @param indexPath the index as a plain local file
 * @param isWanted returns whether to add the contents of a pack, given by ID
 */
export async function addIndex(
  table: ContentTable,
  indexPath: string,
  isWanted: (pack: string) => boolean,
): Promise<void> {
  for await (const line of readLines(createReadStream(indexPath, { highWaterMark: 256 * 1024 }))) {
    const pack = valueAfter(line, PACK_KEY, 32);
    if (pack === undefined || !isWanted(pack)) continue;
    const fact = factOf(line);
    if (fact) table.add(fact, isWanted);
  }
}

function factOf(line: Buffer): Fact | undefined {
  const isPart = isPartLine(line);
  const { sha256, size, pack, entry } = isPart ? decodePart(line) : decodeIndexEntry(line);
  if (sha256 === undefined || size === undefined || pack === undefined || entry === undefined) return undefined;
  return { kind: isPart ? 'part' : 'file', sha256, size, pack, entry };
}
