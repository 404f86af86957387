import { mkdtempSync, type ReadStream, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { formatLsn, startOf } from '../../src/store/wal/names.ts';
import { TablespaceWatch } from '../../src/wal/spool/tablespaces.ts';
import { scratchBase } from '../store/helpers.ts';
import { nameOf, SIZE, WalBench } from '../store/wal/bench.ts';
import { WalBytes } from '../store/wal/wal-bytes.ts';

/** Makes the next read of a file fail after its first bytes. */
async function breakNext(file: string): Promise<void> {
  const handle = await open(file);
  const prototype: FileHandle = Object.getPrototypeOf(handle);
  await handle.close();
  const { createReadStream } = prototype;
  vi.spyOn(prototype, 'createReadStream').mockImplementationOnce(function (this: FileHandle, options) {
    return Readable.from(cut(createReadStream.call(this, options))) as ReadStream;
  });
}

async function* cut(content: Readable): AsyncGenerator<Buffer> {
  for await (const chunk of content) {
    yield chunk as Buffer;
    throw new Error('EIO: i/o error, read');
  }
}

let directory: string;
let bytes: Buffer;
let created: number;
let watch: TablespaceWatch;
beforeEach(async () => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-tablespaces-'));
  const wrote = new WalBytes(3);
  wrote.fillTo(startOf(3, SIZE) + 700_000n);
  created = Number(wrote.add({ manager: 5, data: Buffer.from('\0\0\0\0/fast\0') }).at - startOf(3, SIZE));
  wrote.fillTo(startOf(4, SIZE));
  bytes = wrote.segment(3);
  watch = new TablespaceWatch(directory, SIZE, await new WalBench().open());
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(directory, { recursive: true });
});

test.each([
  ['received after the history began hides no', 60_000],
  ['that the server left before the history began is passed over with its', -60_000],
])('WAL of a later timeline %s tablespace', async (_, afterMs) => {
  const bench = new WalBench();
  await bench.store(1, 1);
  const writer = await bench.open();
  await writer.beginAnew({ at: bench.at, timeline: 1, to: formatLsn(startOf(2, SIZE)), why: 'older data' });
  const file = join(directory, nameOf(3, 2));
  writeFileSync(file, bytes);
  const at = new Date(Date.parse(bench.at) + afterMs);
  utimesSync(file, at, at);
  watch = new TablespaceWatch(directory, SIZE, await bench.open());
  expect(await watch.find(nameOf(3, 2), SIZE)).toBe(afterMs > 0 ? created : undefined);
});

test('a read that fails in the middle of a segment hides no tablespace', async () => {
  writeFileSync(join(directory, nameOf(3)), bytes);
  await breakNext(join(directory, nameOf(3)));
  await expect(watch.find(nameOf(3), SIZE)).rejects.toThrow('EIO');
  expect(await watch.find(nameOf(3), SIZE)).toBe(created);
});

test('a file that the receiver has not filled yet hides no tablespace', async () => {
  const file = join(directory, `${nameOf(3)}.partial`);
  writeFileSync(file, Buffer.alloc(SIZE / 2));
  expect(await watch.find(nameOf(3), 500_000)).toBeUndefined();
  writeFileSync(file, bytes);
  expect(await watch.find(nameOf(3), 800_000)).toBe(created);
});
