import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { startOf } from '../../src/store/wal/names.ts';
import { TablespaceWatch } from '../../src/wal/spool/tablespaces.ts';
import { scratchBase } from '../store/helpers.ts';
import { nameOf, SIZE, WalBench } from '../store/wal/bench.ts';
import { WalBytes } from '../store/wal/wal-bytes.ts';

let breaks: boolean;
vi.mock('../../src/wal/spool/received-files.ts', async (original) => {
  const real = await original<typeof import('../../src/wal/spool/received-files.ts')>();
  const readPartial: typeof real.readPartial = async (...of) => {
    const content = await real.readPartial(...of);
    return breaks && content ? Readable.from(cut(content)) : content;
  };
  return { ...real, readPartial };
});

async function* cut(content: Readable): AsyncGenerator<Buffer> {
  breaks = false;
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
  breaks = false;
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a read that fails in the middle of a segment hides no tablespace', async () => {
  writeFileSync(join(directory, nameOf(3)), bytes);
  breaks = true;
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
