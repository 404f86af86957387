import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { decodePackLine } from '../../../src/store/objects/manifest.ts';
import { fetchFile, MAX_DOCUMENT, mostUnpacked, streamOf } from '../../../src/store/objects/objects.ts';
import { PackReader } from '../../../src/store/packs/pack-reader.ts';
import { scratchBase } from '../helpers.ts';
import { inMemory } from '../memory-destination.ts';

/** Small objects that somebody forged, together with the manifest that names them. */

let spool: string;
beforeEach(() => {
  spool = mkdtempSync(path.join(scratchBase, 'lifeboat-bounds-'));
});
afterEach(() => rmSync(spool, { recursive: true, force: true }));

const destination = inMemory('memory', new Map());
const id = 'c'.repeat(32);

test('a small index that unpacks to a large file does not fill the spool', async () => {
  const bomb = zstdCompressSync(Buffer.alloc(MAX_DOCUMENT + 20_000_000));
  expect(mostUnpacked(bomb.length)).toBeLessThan(MAX_DOCUMENT + 20_000_000);
  const key = 'shop/snapshots/a/web.media.index.ndjson.zst';
  const ref = { key, ...(await destination.put(key, streamOf(bomb))) };
  const fetched = fetchFile(destination, ref, path.join(spool, 'index'), { keys: {} });
  await expect(fetched).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(readdirSync(spool)).toEqual([]);
});

test('a list of packs names no pack that is larger than any', () => {
  const line = (plainSize: number) =>
    JSON.stringify({ id, key: `shop/packs/web.media/cc/${id}.zip.zst`, size: 1, sha256: 'a'.repeat(64), plainSize });
  expect(decodePackLine(line(100 * 1024 * 1024), 'a').plainSize).toBe(100 * 1024 * 1024);
  expect(() => decodePackLine(line(300 * 1024 * 1024), 'a')).toThrow(/not a list of packs/);
});

test('a pack whose directory claims to be larger than any is not read into memory', async () => {
  const size = 200 * 1024 * 1024;
  const length = 100 * 1024 * 1024;
  const end = Buffer.alloc(98);
  end.writeUInt32LE(0x06064b50, 0);
  end.writeBigUInt64LE(1n, 32);
  end.writeBigUInt64LE(BigInt(length), 40);
  end.writeBigUInt64LE(BigInt(size - length - 98), 48);
  end.writeUInt32LE(0x07064b50, 56);
  end.writeBigUInt64LE(BigInt(size - 98), 64);
  end.writeUInt32LE(0x06054b50, 76);
  let read = 0;
  const sparse = {
    ...destination,
    async get(_: string, { range }: { range?: { start: number; end: number } } = {}) {
      const { start = 0, end: to = size } = range ?? {};
      read += to - start;
      const bytes = Buffer.alloc(to - start);
      if (to === size) end.copy(bytes, bytes.length - 98, Math.max(0, 98 - bytes.length));
      return streamOf(bytes);
    },
  };
  const pack = { id, key: `shop/packs/web.media/cc/${id}.zip`, size, sha256: '', plainSize: size };
  const opened = PackReader.open(sparse, pack, { spool, keys: {} });
  await expect(opened).rejects.toMatchObject({
    code: 'OBJECT_DAMAGED',
    message: expect.stringContaining('end records'),
  });
  expect(read).toBeLessThan(20 * 1024 * 1024);
});
