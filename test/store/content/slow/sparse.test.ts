import { randomBytes } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ChunkedReading } from '../../../../src/store/chunks/chunked-reading.ts';
import { isEqualFile } from '../../../../src/store/exchange/live-file.ts';
import { findData, lengthOf, outside } from '../../../../src/store/filesystem/data-ranges.ts';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import { LargeFile } from '../../../../src/store/filesystem/large-file.ts';
import { readIndexLines } from '../../../../src/store/filesystem/read-index.ts';
import { type Bench, createBench } from '../../helpers.ts';

const GIB = 1024 ** 3;

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

type Pieces = readonly (readonly [offset: number, data: Buffer])[];

/** Creates a file of the given size with data at some places, and holes elsewhere. */
function make(name: string, size: number, pieces: Pieces): void {
  const fd = openSync(join(bench.tree, name), 'w');
  ftruncateSync(fd, size);
  for (const [offset, data] of pieces) writeSync(fd, data, 0, data.length, offset);
  closeSync(fd);
}

function expectFile(file: string, size: number, pieces: Pieces): void {
  expect(statSync(file).size).toBe(size);
  const fd = openSync(file, 'r');
  for (const [offset, data] of pieces) {
    const found = Buffer.alloc(data.length);
    readSync(fd, found, 0, found.length, offset);
    expect(found.equals(data)).toBe(true);
  }
  closeSync(fd);
  const stored = pieces.reduce((sum, [, data]) => sum + data.length + 8192, 0);
  expect(lstatSync(file).blocks * 512).toBeLessThanOrEqual(stored);
}

describe('a large file with holes', () => {
  const size = 300 * GIB;
  const pieces: Pieces = [
    [0, randomBytes(4096)],
    [100 * GIB, randomBytes(4096)],
  ];

  test('takes as long as its data to store, restore and store again', async () => {
    make('disk.img', size, pieces);
    const reading = vi.spyOn(LargeFile.prototype, 'chunks');
    const stored = await bench.storeAfterTick();
    expect(stored).toMatchObject({ files: 1, bytes: size, changedCount: 0 });
    expect(stored.newBytes).toBeLessThan(20_000);
    const read = reading.mock.calls.reduce((sum, [, length]) => sum + length, 0);
    expect(read).toBeLessThanOrEqual(16_384);
    const { target } = await bench.extract(stored);
    expectFile(join(target, 'disk.img'), size, pieces);
    const again = await bench.store({ previous: { indexPath: bench.index, packs: stored.packs } });
    expect(again).toMatchObject({ unchangedFiles: 1, newBytes: 0 });
    const second = await bench.extract(again);
    expectFile(join(second.target, 'disk.img'), size, pieces);
  });

  test('is not stored twice under another name, even if its holes differ', async () => {
    make('a.img', size, pieces);
    make('b.img', size, pieces);
    make('c.img', size, [pieces[0]!, [200 * GIB, pieces[1]![1]]]);
    const stored = await bench.storeAfterTick();
    expect(stored).toMatchObject({ files: 3, newFiles: 1 });
    const { target } = await bench.extract(stored);
    expectFile(join(target, 'b.img'), size, pieces);
    expectFile(join(target, 'c.img'), size, [pieces[0]!, [200 * GIB, pieces[1]![1]]]);
  });

  test('that is a single hole', async () => {
    make('empty.img', size, []);
    const stored = await bench.storeAfterTick();
    expect(stored).toMatchObject({ files: 1, bytes: size, packs: [] });
    const { target } = await bench.extract(stored);
    expectFile(join(target, 'empty.img'), size, []);
    const again = await bench.store({ previous: { indexPath: bench.index, packs: stored.packs } });
    expect(again).toMatchObject({ unchangedFiles: 1, bytes: size, unreadableCount: 0 });
    const second = await bench.extract(again);
    expectFile(join(second.target, 'empty.img'), size, []);
  });

  test('whose line does not say that it is sparse is restored with its hole at the end', async () => {
    make('disk.img', size, pieces);
    const stored = await bench.storeAfterTick();
    const unmarked = Buffer.from(readFileSync(bench.index, 'utf8').replace('"sparse":true,', ''));
    const { target } = await bench.extract(stored, { index: readIndexLines(Readable.from([unmarked])) });
    expectFile(join(target, 'disk.img'), size, pieces);
  });

  test('whose line cannot be read back takes no other file with it', async () => {
    make('disk.img', size, pieces);
    make('whole', 10, [[0, randomBytes(10)]]);
    vi.spyOn(ChunkedReading.prototype, 'chunks').mockImplementation(async function* (this: ChunkedReading) {
      this.content = { size, sha256: 'none' };
      yield* [];
    });
    const stored = await bench.storeAfterTick();
    expect(stored).toMatchObject({ files: 1, unreadableCount: 1, unreadable: [{ path: 'disk.img' }] });
    const { result } = await bench.extract(stored);
    expect(result.files).toBe(1);
  });

  test('with more ranges than an index line holds', async () => {
    const many: Pieces = Array.from({ length: 3000 }, (_, i) => [i * 65_536, randomBytes(100)] as const);
    make('many.img', GIB, many);
    const stored = await bench.storeAfterTick();
    const [, entry] = await bench.entries();
    expect(entry?.ranges?.length).toBeLessThanOrEqual(2000);
    // All holes have the same size, and only as many are filled as necessary.
    expect(lengthOf(entry?.ranges ?? [])).toBeLessThanOrEqual(3000 * 4096 + 2001 * 65_536);
    const { target } = await bench.extract(stored);
    const found = readFileSync(join(target, 'many.img'));
    expect(many.every(([offset, data]) => found.subarray(offset, offset + 100).equals(data))).toBe(true);
  });

  test('is compared with the present file without reading its holes', async () => {
    make('disk.img', size, pieces);
    await bench.storeAfterTick();
    const [, entry] = await bench.entries();
    const root = Directory.open(bench.tree);
    const isEqual = () => isEqualFile(root, 'disk.img', entry!, () => undefined);
    expect(await isEqual()).toBe(true);
    const change = (offset: number, byte: number) => {
      const fd = openSync(join(bench.tree, 'disk.img'), 'r+');
      writeSync(fd, Buffer.from([byte]), 0, 1, offset);
      closeSync(fd);
      const seconds = Number(entry!.mtime) / 1e9;
      utimesSync(join(bench.tree, 'disk.img'), seconds, seconds);
      // Times in seconds are not exact enough to match.
      entry!.mtime = lstatSync(join(bench.tree, 'disk.img'), { bigint: true }).mtimeNs;
    };
    // Zeros in place of a hole are the same content; other bytes are not.
    change(50 * GIB, 0);
    expect(await isEqual()).toBe(true);
    change(50 * GIB, 1);
    expect(await isEqual()).toBe(false);
    root.close();
  });

  test('whose stored holes are not its own is refused', async () => {
    make('disk.img', size, pieces);
    const stored = await bench.storeAfterTick();
    const entries = await bench.entries();
    async function* moved() {
      for (const entry of entries) yield entry.ranges ? { ...entry, ranges: [0, 4096, 101 * GIB, 4096] } : entry;
    }
    await expect(bench.extract(stored, { index: moved() })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('that is truncated while it is read is flagged', async () => {
    make('disk.img', size, [[0, randomBytes(40 * 1024 * 1024)]]);
    const original = LargeFile.prototype.chunks;
    vi.spyOn(LargeFile.prototype, 'chunks').mockImplementation(async function* (this: LargeFile, ...args) {
      let first = true;
      for await (const chunk of original.apply(this, args)) {
        yield chunk;
        const fd = openSync(join(bench.tree, 'disk.img'), 'r+');
        if (first) ftruncateSync(fd, 20 * 1024 * 1024 + (statSync(join(bench.tree, 'disk.img')).size % 7));
        closeSync(fd);
        first = false;
      }
    });
    const stored = await bench.storeAfterTick();
    expect(stored.changedCount).toBe(1);
    const { target } = await bench.extract(stored);
    expect(statSync(join(target, 'disk.img')).size).toBeLessThanOrEqual(20 * 1024 * 1024 + 7);
  });
});

describe('the map of a file', () => {
  test('is the result of lseek, and undefined without holes', async () => {
    mkdirSync(join(bench.tree, 'd'));
    make('full', 1024 * 1024, [[0, randomBytes(1024 * 1024)]]);
    make('holes', 1024 * 1024, [[65_536, randomBytes(4096)]]);
    const of = async (name: string) => {
      const fd = openSync(join(bench.tree, name), 'r');
      const found = await findData(fd, statSync(join(bench.tree, name)).size);
      closeSync(fd);
      return found;
    };
    expect(await of('full')).toBeUndefined();
    expect(await of('holes')).toEqual([65_536, 4096]);
    expect(await of('d')).toBeUndefined();
  });

  test('without the known ranges', () => {
    const left = (a: number[], b: number[]) => [...outside(a, b)].map(({ offset, length }) => [offset, length]);
    expect(left([0, 10], [])).toEqual([[0, 10]]);
    expect(left([0, 10, 20, 10], [5, 20])).toEqual([
      [0, 5],
      [25, 5],
    ]);
    expect(left([5, 5], [0, 20])).toEqual([]);
    expect(left([0, 20], [2, 2, 6, 2])).toEqual([
      [0, 2],
      [4, 2],
      [8, 12],
    ]);
  });
});
