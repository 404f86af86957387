import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { padTar } from '../../../../src/sources/postgres/wal/pad-tar.ts';

test.each([
  [1, 512],
  [512, 512],
  [1024 + 226, 1536],
  [0, 0],
])('a tar of %i bytes gets %i', async (size, padded) => {
  const tar = Readable.from(size === 0 ? [] : [Buffer.alloc(size, 'x')], { objectMode: false });
  const read = await buffer(padTar(tar));
  expect(read).toHaveLength(padded);
  expect(read.subarray(0, size).every((byte) => byte === 'x'.charCodeAt(0))).toBe(true);
  expect(read.subarray(size).every((byte) => byte === 0)).toBe(true);
});

test('a tar that breaks off with an error fails', async () => {
  async function* broken(): AsyncGenerator<Buffer> {
    yield Buffer.alloc(100);
    throw new Error('cut');
  }
  await expect(buffer(padTar(Readable.from(broken(), { objectMode: false })))).rejects.toThrow('cut');
});
