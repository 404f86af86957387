import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { KnownContents } from '../../../src/store/content/known.ts';
import { encodeIndexEntry, type IndexEntry } from '../../../src/store/filesystem/index-file.ts';
import { encodePart } from '../../../src/store/filesystem/index-part.ts';
import type { ContentTable } from '../../../src/store/known/content-table.ts';
import { HashTable } from '../../../src/store/known/hash-table.ts';
import { scratchBase } from '../helpers.ts';

const sha = (text: string | number) => createHash('sha256').update(String(text)).digest('hex');
const PACK = 'b'.repeat(32);
const entry = (path: string, size: number): IndexEntry => ({
  path,
  type: 'file',
  mode: 0,
  uid: 0,
  gid: 0,
  mtime: 0n,
  size,
  sha256: sha(path),
  pack: PACK,
  entry: path,
});

let directory: string;
let index: string;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-known-'));
  index = join(directory, 'index');
});
afterEach(() => rmSync(directory, { recursive: true }));

describe('the hash table', () => {
  test('finds the added content and nothing else, also after it has grown', () => {
    const table = new HashTable();
    for (let i = 0; i < 20_000; i++) table.set(sha(i), i * 3);
    expect(table.size).toBe(20_000);
    for (let i = 0; i < 20_000; i++) if (table.get(sha(i)) !== i * 3) throw new Error(`lost ${i}`);
    for (let i = 20_000; i < 40_000; i++) if (table.get(sha(i)) !== undefined) throw new Error(`invented ${i}`);
  });

  test('holds the last place of content, and offsets beyond 4 GiB', () => {
    const table = new HashTable();
    table.set(sha('a'), 7);
    table.set(sha('a'), 2 ** 45);
    expect(table.get(sha('a'))).toBe(2 ** 45);
    expect(table.size).toBe(1);
  });
});

describe('known contents', () => {
  const nothing = { lineAt: async () => undefined };
  const only = (line: string) => ({ lineAt: async () => Buffer.from(line.trimEnd()) });
  const part = (text: string, size: number, name = text) =>
    encodePart({ offset: 0, size, sha256: sha(text), pack: PACK, entry: name });

  test('are found in the previous index and the current one', async () => {
    const lines = [entry('a', 5), { ...entry('"sha256":"x', 6) }, entry('c', 50)].map(encodeIndexEntry);
    writeFileSync(index, lines.join(''));
    const current = entry('new', 9);
    const known = new KnownContents({ current: only(encodeIndexEntry(current)), parts: nothing, usable: () => true });
    await known.loadPrevious(index);
    known.add(current, 0);
    expect(await known.find({ sha256: sha('a'), size: 5 })).toEqual({ pack: PACK, entry: 'a' });
    expect(await known.find({ sha256: sha('"sha256":"x'), size: 6 })).toEqual({ pack: PACK, entry: '"sha256":"x' });
    expect(await known.find({ sha256: sha('new'), size: 9 })).toEqual({ pack: PACK, entry: 'new' });
    expect(await known.find({ sha256: sha('other'), size: 5 })).toBeUndefined();
    await known.close();
  });

  test('are parts, too, but a part is never a file, nor a file a part', async () => {
    writeFileSync(index, encodeIndexEntry(entry('both', 5)) + part('part', 7) + part('both', 5, '17'));
    const known = new KnownContents({ current: nothing, parts: only(part('now', 8)), usable: () => true });
    await known.loadPrevious(index);
    known.addPart(sha('now'), 0);
    expect(await known.findPart({ sha256: sha('part'), size: 7 })).toEqual({ pack: PACK, entry: 'part' });
    expect(await known.findPart({ sha256: sha('now'), size: 8 })).toEqual({ pack: PACK, entry: 'now' });
    expect(await known.findPart({ sha256: sha('both'), size: 5 })).toEqual({ pack: PACK, entry: '17' });
    expect(await known.find({ sha256: sha('both'), size: 5 })).toEqual({ pack: PACK, entry: 'both' });
    expect(await known.find({ sha256: sha('part'), size: 7 })).toBeUndefined();
    await known.close();
  });

  test('are not used if the line differs, or the pack is not usable', async () => {
    writeFileSync(index, encodeIndexEntry(entry('a', 5)));
    const usable = new Set([PACK]);
    const known = new KnownContents({ current: nothing, parts: nothing, usable: (pack) => usable.has(pack) });
    await known.loadPrevious(index);
    const colliding = sha('a').slice(0, 16) + '0'.repeat(48);
    expect(await known.find({ sha256: colliding, size: 5 })).toBeUndefined();
    expect(await known.find({ sha256: sha('a'), size: 6 })).toBeUndefined();
    expect(await known.find({ sha256: sha('a'), size: 5 })).toEqual({ pack: PACK, entry: 'a' });
    usable.clear();
    expect(await known.find({ sha256: sha('a'), size: 5 })).toBeUndefined();
    await known.close();
  });

  test('are not used if their line is damaged, and then the table is asked', async () => {
    writeFileSync(index, encodeIndexEntry(entry('a', 5)) + part('part', 7));
    const fact = { pack: PACK, entry: 'elsewhere' };
    const find = (wanted: object) => ({ ...wanted, ...fact });
    const table = { find } as unknown as ContentTable;
    const known = new KnownContents({ current: nothing, parts: nothing, usable: () => true, table });
    await known.loadPrevious(index);
    writeFileSync(index, readFileSync(index, 'utf8').replaceAll('"size":', '"size";'));
    expect(await known.find({ sha256: sha('a'), size: 5 })).toEqual(fact);
    expect(await known.findPart({ sha256: sha('part'), size: 7 })).toEqual(fact);
    await known.close();
  });

  test('that this run has stored replace those in a pack that may not be used any more', async () => {
    writeFileSync(index, part('a', 5, 'old'));
    const known = new KnownContents({ current: nothing, parts: only(part('a', 5, 'new')), usable: () => true });
    await known.loadPrevious(index);
    known.addPart(sha('a'), 0);
    expect(await known.findPart({ sha256: sha('a'), size: 5 })).toEqual({ pack: PACK, entry: 'new' });
    await known.close();
  });
});
