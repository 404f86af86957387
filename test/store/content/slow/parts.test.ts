import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { MAX_CHUNK, MIN_CHUNK } from '../../../../src/store/chunks/chunking.ts';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { LargeFile } from '../../../../src/store/filesystem/large-file.ts';
import { readIndexLines } from '../../../../src/store/filesystem/read-index.ts';
import { PackReader } from '../../../../src/store/packs/pack-reader.ts';
import type { PackRef } from '../../../../src/store/packs/pack-stream.ts';
import { noise } from '../../chunks/chunks.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';

const MIB = 1024 * 1024;

let bench: Bench;
let previousIndex: string;
beforeEach(() => {
  bench = createBench(1000);
  previousIndex = `${bench.index}-before`;
});
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

const inTree = (name: string) => join(bench.tree, name);
const write = (name: string, content: Buffer) => writeFileSync(inTree(name), content);

/** Stores the tree after an earlier time. `packs`: those of its packs that may be used. */
async function storeAgain(before: StoredTree, packs = before.packs): Promise<StoredTree> {
  copyFileSync(bench.index, previousIndex);
  return bench.storeAfterTick({ previous: { indexPath: previousIndex, packs } });
}

async function expectRestored(stored: StoredTree): Promise<void> {
  const { target, result } = await bench.extract(stored);
  expect(describeTree(target)).toEqual(describeTree(bench.tree));
  expect(result).toMatchObject({ files: stored.files, bytes: stored.bytes });
}

describe('a large file', () => {
  test.each([
    1001,
    MIN_CHUNK - 1,
    MIN_CHUNK,
    MIN_CHUNK + 1,
    MAX_CHUNK - 1,
    MAX_CHUNK,
    MAX_CHUNK + 1,
    2 * MAX_CHUNK + 1,
  ])('of %i bytes comes back', async (size) => {
    write('file', noise(size, 'file'));
    write('zeros', Buffer.alloc(size));
    for (const small of [0, 1, 999, 1000]) write(`small-${small}`, noise(small, 'small'));
    const stored = await bench.store();
    await expectRestored(stored);
    const entries = await bench.entries();
    expect(entries.filter(({ parts }) => parts !== undefined).map(({ path }) => path)).toEqual(['file', 'zeros']);
  });

  test('stores little after a change, an insertion and a deletion', async () => {
    const content = noise(40 * MIB, 'content');
    write('file', content);
    let stored = await bench.store();
    expect(stored.newBytes).toBeGreaterThan(40 * MIB);
    for (const edited of [
      Buffer.concat([content.subarray(0, 20 * MIB), noise(4096, 'changed'), content.subarray(20 * MIB + 4096)]),
      Buffer.concat([noise(100, 'before'), content]),
      content.subarray(4097),
    ]) {
      write('file', edited);
      stored = await storeAgain(stored);
      expect(stored.newFiles).toBe(1);
      expect(stored.newBytes).toBeLessThan(6 * MIB);
      await expectRestored(stored);
    }
  });

  test('costs nothing if it is unchanged, moved, copied, linked, or touched', async () => {
    write('file', noise(10 * MIB, 'file'));
    mkdirSync(inTree('directory'));
    const first = await bench.storeAfterTick();
    const second = await storeAgain(first);
    expect(second).toMatchObject({ unchangedFiles: 1, newFiles: 0, newBytes: 0 });
    renameSync(inTree('file'), inTree('directory/moved'));
    copyFileSync(inTree('directory/moved'), inTree('copy'));
    linkSync(inTree('copy'), inTree('linked'));
    const third = await storeAgain(second);
    expect(third).toMatchObject({ files: 3, newFiles: 0, newBytes: 0 });
    await expectRestored(third);
    const fourth = await storeAgain(third);
    expect(fourth).toMatchObject({ files: 3, newFiles: 0, newBytes: 0 });
    await expectRestored(fourth);
  });

  test('stores equal parts once within a run, also in different files', async () => {
    const shared = noise(12 * MIB, 'shared');
    write('a', Buffer.concat([noise(5 * MIB, 'a'), shared]));
    write('b', Buffer.concat([noise(5 * MIB, 'b'), shared, shared]));
    const stored = await bench.store();
    expect(stored.newBytes).toBeLessThan(32 * MIB);
    expect(stored.newFiles).toBe(2);
    await expectRestored(stored);
  });

  test('that only has the selected name of a hard link comes back under it', async () => {
    write('a', noise(6 * MIB, 'linked'));
    linkSync(inTree('a'), inTree('b'));
    linkSync(inTree('a'), inTree('c'));
    const stored = await bench.store();
    const { target, result } = await bench.extract(stored, { select: selectByGlobs(['b', 'c']) });
    expect(result).toMatchObject({ files: 2, bytes: 6 * MIB });
    expect(readFileSync(join(target, 'c')).equals(noise(6 * MIB, 'linked'))).toBe(true);
    expect(statSync(join(target, 'b')).nlink).toBe(2);
  });

  test('does not share a compressed pack with one that cannot be compressed', async () => {
    write('a-noise', noise(5 * MIB, 'noise'));
    write('b-text', Buffer.alloc(5 * MIB, 'all the same '));
    write('c-noise', noise(5 * MIB, 'more noise'));
    const stored = await bench.store();
    expect(stored.packs.map(({ key }) => key.endsWith('.zst')).sort()).toEqual([false, true]);
    await expectRestored(stored);
  });

  test('shares its packs with all others, although text and media alternate', async () => {
    for (let i = 0; i < 40; i++) {
      const content = i % 2 === 0 ? noise(300 * 1024, `noise ${i}`) : Buffer.alloc(300 * 1024, `text ${i} `);
      write(`${i}`, content);
    }
    const first = await bench.storeAfterTick();
    expect(first.packs).toHaveLength(2);
    // The next night, one part of each changes.
    for (let i = 0; i < 40; i++) {
      const file = openSync(inTree(`${i}`), 'r+');
      writeSync(file, `changed ${i}`, 100_000);
      closeSync(file);
    }
    const second = await storeAgain(first);
    expect(second.packs.length).toBeLessThanOrEqual(4);
    await expectRestored(second);
  });

  test('whose lines are forged so that they can be read in two ways is listed as it is read', async () => {
    write('file', noise(5 * MIB, 'file'));
    const stored = await bench.storeAfterTick();
    const [pack] = stored.packs;
    const other = { ...(pack as PackRef), id: 'f'.repeat(32), key: `${pack?.key}.other` };
    const inRepository = (key: string) => join(bench.tree, '../repo', key);
    copyFileSync(inRepository(pack?.key ?? ''), inRepository(other.key));
    const lines = readFileSync(bench.index, 'utf8').split('\n');
    const forged = lines.map((line) => line.replace(/^(\{"offset".*)("pack":)/, `$1"pack":"${other.id}",$2`));
    expect(forged.filter((line) => line.includes(other.id)).length).toBeGreaterThan(1);
    writeFileSync(bench.index, forged.join('\n'));
    const again = await storeAgain(stored, [...stored.packs, other]);
    expect(again.packs.map(({ id }) => id)).toEqual([pack?.id]);
    await expectRestored(again);
  });

  test('only stores the parts again whose pack may not be used', async () => {
    write('file', noise(100 * MIB, 'file'));
    const first = await bench.storeAfterTick();
    expect(first.packs.length).toBe(2);
    const smaller = first.packs.reduce((a, b) => (a.size < b.size ? a : b));
    const read = vi.spyOn(LargeFile.prototype, 'chunks');
    const second = await storeAgain(
      first,
      first.packs.filter(({ id }) => id !== smaller.id),
    );
    expect(second).toMatchObject({ unchangedFiles: 0, newFiles: 1 });
    expect(Math.abs(second.newBytes - smaller.size)).toBeLessThan(MIB);
    expect(second.packs.map(({ id }) => id)).not.toContain(smaller.id);
    const bytes = read.mock.calls.reduce((sum, [, length]) => sum + length, 0);
    expect(Math.abs(bytes - smaller.size)).toBeLessThan(MIB);
    read.mockRestore();
    await expectRestored(second);
  });

  test('is stored whole if it only seems unchanged, and a pack of it may not be used', async () => {
    write('file', noise(100 * MIB, 'file'));
    const first = await bench.storeAfterTick();
    const smaller = first.packs.reduce((a, b) => (a.size < b.size ? a : b));
    // Its disk returns other bytes, and neither its times nor its size show it.
    const original = LargeFile.prototype.chunks;
    vi.spyOn(LargeFile.prototype, 'chunks').mockImplementation(async function* (
      this: LargeFile,
      start,
      length,
      signal,
    ) {
      for await (const bytes of original.call(this, start, length, signal)) yield Buffer.from(bytes).fill(7, 0, 1);
    });
    const second = await storeAgain(
      first,
      first.packs.filter(({ id }) => id !== smaller.id),
    );
    vi.restoreAllMocks();
    const [before, after] = [readFileSync(previousIndex, 'utf8'), readFileSync(bench.index, 'utf8')];
    const hashOf = (index: string) => /"sha256":"([0-9a-f]+)"/.exec(index)?.[1];
    expect(hashOf(after)).not.toBe(hashOf(before));
    const { target } = await bench.extract(second);
    expect(readFileSync(join(target, 'file')).length).toBe(100 * MIB);
  });

  test('that is written to between the walk and its turn, while a pack of it may not be used, is read again', async () => {
    write('file', noise(100 * MIB, 'file'));
    const first = await bench.storeAfterTick();
    const smaller = first.packs.reduce((a, b) => (a.size < b.size ? a : b));
    const stat = LargeFile.prototype.stat;
    let isWritten = false;
    vi.spyOn(LargeFile.prototype, 'stat').mockImplementation(async function (this: LargeFile) {
      if (!isWritten) {
        isWritten = true;
        const fd = openSync(inTree('file'), 'r+');
        // In a part of the larger pack, which would not be read.
        writeSync(fd, 'changed', MIB);
        closeSync(fd);
      }
      return stat.call(this);
    });
    const second = await storeAgain(
      first,
      first.packs.filter(({ id }) => id !== smaller.id),
    );
    vi.restoreAllMocks();
    await expectRestored(second);
  });

  test('that changes while it is read is stored once more, and its first parts are found again', async () => {
    write('file', noise(20 * MIB, 'file'));
    const original = LargeFile.prototype.chunks;
    let changes = 0;
    vi.spyOn(LargeFile.prototype, 'chunks').mockImplementation(async function* (this: LargeFile, ...args) {
      for await (const chunk of original.apply(this, args)) {
        if (changes++ === 0) {
          const fd = openSync(inTree('file'), 'r+');
          writeSync(fd, 'changed', 19 * MIB);
          closeSync(fd);
        }
        yield chunk;
      }
    });
    const stored = await bench.storeAfterTick();
    expect(stored).toMatchObject({ changedCount: 0, newFiles: 1 });
    expect(stored.newBytes).toBeLessThan(25 * MIB);
    await expectRestored(stored);
  });

  test('of several hundred MiB comes back, with its parts in many packs', async () => {
    const size = 300 * MIB;
    write('file', noise(size, 'large'));
    let stored = await bench.storeAfterTick();
    for (let day = 1; day <= 5; day++) {
      const fd = openSync(inTree('file'), 'r+');
      for (let i = 0; i < 10; i++) writeSync(fd, noise(4096, `${day} ${i}`), 0, 4096, (i * 5 + day) * 5 * MIB);
      closeSync(fd);
      stored = await storeAgain(stored);
      expect(stored.newBytes).toBeLessThan(25 * MIB);
    }
    expect(stored.packs.length).toBeGreaterThan(8);
    const { target } = await bench.extract(stored);
    execFileSync('cmp', [inTree('file'), join(target, 'file')]);
  });
});

/** The lines of the index, in which a test changes something. */
const lines = () => readFileSync(bench.index, 'utf8').trimEnd().split('\n');
const extractLines = (stored: StoredTree, changed: string[]) =>
  bench.extract(stored, { index: readIndexLines(Readable.from([Buffer.from(`${changed.join('\n')}\n`)])) });

describe('damage is refused:', () => {
  const DAMAGED = { code: 'OBJECT_DAMAGED' };
  /** Where the lines of the parts are: after those of the root and the file. */
  const FIRST = 2;

  let stored: StoredTree;
  beforeEach(async () => {
    // Parts of equal sizes: only their content tells them apart.
    write('file', Buffer.concat(['a', 'b', 'c', 'd'].map((text) => Buffer.alloc(MAX_CHUNK, text))));
    stored = await bench.store();
    expect(lines().length).toBe(FIRST + 4);
  });

  const changes: [string, (parts: Record<string, unknown>[]) => unknown[]][] = [
    ['a part is missing', ([a, b, , d]) => [a, b, d]],
    ['the last part is missing', ([a, b, c]) => [a, b, c]],
    ['a part is listed twice', ([a, b, c, d]) => [a, b, b, c, d]],
    ['a part replaces another', ([a, b, c, d]) => [a, b, { ...b, offset: c?.offset }, d]],
    ['parts are out of order', ([a, b, c, d]) => [a, c, b, d]],
    [
      'the contents of two parts are swapped',
      ([a, b, c, d]) => [a, { ...c, offset: b?.offset }, { ...b, offset: c?.offset }, d],
    ],
    ['parts overlap', ([a, b, c, d]) => [a, { ...b, offset: 1 }, c, d]],
    ['a part is too long', ([a, b, c, d]) => [a, b, c, { ...d, size: MAX_CHUNK + 1 }]],
    ['a part is too short', ([a, b, c, d]) => [a, b, c, { ...d, size: MAX_CHUNK - 1 }]],
    ['a part is empty', ([a, b, c, d]) => [a, b, { ...c, size: 0 }, c, d]],
    ['a part is larger than any reader allows', ([a, b, c, d]) => [a, b, c, { ...d, size: 2 ** 40 }]],
    ['a part names another entry', ([a, b, c, d]) => [a, b, { ...c, entry: d?.entry }, d]],
    ['a part names an entry that is not there', ([a, b, c, d]) => [a, b, { ...c, entry: '17' }, d]],
    ['a part names a pack that the manifest does not', ([a, b, c, d]) => [a, b, { ...c, pack: 'f'.repeat(32) }, d]],
  ];
  test.each(changes)('%s', async (_, change) => {
    const all = lines();
    const parts = all.slice(FIRST).map((line) => JSON.parse(line) as Record<string, unknown>);
    const changed = [...all.slice(0, FIRST), ...change(parts).map((part) => JSON.stringify(part))];
    await expect(extractLines(stored, changed)).rejects.toMatchObject(DAMAGED);
    // With a number of parts that fits, the parts themselves are found to be wrong.
    const counted = all[1]?.replace('"parts":4', `"parts":${changed.length - FIRST}`) as string;
    await expect(extractLines(stored, [all[0] as string, counted, ...changed.slice(FIRST)])).rejects.toMatchObject(
      DAMAGED,
    );
  });

  test('a part stands where none may', async () => {
    const [root, file, ...parts] = lines() as [string, string, ...string[]];
    await expect(extractLines(stored, [root, parts[0] as string, file, ...parts])).rejects.toMatchObject(DAMAGED);
    const both = JSON.stringify({ ...JSON.parse(file), ...JSON.parse(parts[0] as string), size: 4 * MAX_CHUNK });
    await expect(extractLines(stored, [root, both, ...parts])).rejects.toMatchObject(DAMAGED);
  });

  test('the hash of a part, unless the hash of the whole file already proves its content', async () => {
    const [root, file, a, b, ...rest] = lines() as [string, string, string, string, ...string[]];
    const wrong = JSON.stringify({ ...JSON.parse(a), sha256: JSON.parse(b).sha256 });
    const { target } = await extractLines(stored, [root, file, wrong, b, ...rest]);
    expect(readFileSync(join(target, 'file')).equals(readFileSync(inTree('file')))).toBe(true);
    // The hash of a file with holes is not computed from its parts as they arrive.
    const sparse = JSON.stringify({ ...JSON.parse(file), sparse: true });
    await expect(extractLines(stored, [root, sparse, wrong, b, ...rest])).rejects.toMatchObject(DAMAGED);
  });

  test('a bit of a pack', async () => {
    const [pack] = stored.packs;
    const file = join(bench.tree, '../repo', pack?.key ?? '');
    const bytes = readFileSync(file);
    for (const at of [0, 40, Math.floor(bytes.length / 2), bytes.length - 30, bytes.length - 1]) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(at) ^ 4, at);
      rmSync(file);
      writeFileSync(file, flipped);
      await expect(bench.extract(stored)).rejects.toMatchObject(DAMAGED);
    }
    truncateSync(file, bytes.length - 1);
    await expect(bench.extract(stored)).rejects.toMatchObject(DAMAGED);
  });
});

test('a file that another program replaces between two of its packs is refused, and nothing is written through it', async () => {
  write('file', noise(70 * MIB, 'file'));
  const victim = join(bench.tree, '../victim');
  writeFileSync(victim, 'precious');
  const stored = await bench.store();
  expect(stored.packs.length).toBe(2);
  const original = PackReader.open.bind(PackReader);
  const target = join(bench.tree, '../replaced');
  vi.spyOn(PackReader, 'open').mockImplementation(async (...args) => {
    unlinkSync(join(target, 'file'));
    linkSync(victim, join(target, 'file'));
    return original(...args);
  });
  await expect(bench.extract(stored, { target })).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(readFileSync(victim, 'utf8')).toBe('precious');
  expect(lstatSync(victim).mode & 0o777).toBe(0o644);
});
