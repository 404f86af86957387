import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MAX_DOCUMENT, MAX_READ_RECORD, MAX_RECORD, mostUnpacked } from '../../../src/store/objects/bounds.ts';
import { decodeManifest, decodePackLine } from '../../../src/store/objects/manifest.ts';
import { fetchFile, readDocument, readEvenDamaged, streamOf } from '../../../src/store/objects/objects.ts';
import { PackReader } from '../../../src/store/packs/pack-reader.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
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

test('a forged document that every listing reads takes no more memory than a stored one may', async () => {
  const objects = new Map<string, string>();
  const repository = await openRepository(inMemory('main', objects), { project: 'shop', create: true, keys: {} });
  const key = 'shop/snapshots/20261120T030000Z-4f1c9a/manifest.json';
  const parse = vi.spyOn(JSON, 'parse');
  objects.set(key, `{"format":1,"sources":[${'{},'.repeat(MAX_READ_RECORD / 3)}{}]}`);
  const { damaged } = await repository.snapshots();
  expect(damaged).toMatchObject([
    { error: { code: 'OBJECT_DAMAGED', message: expect.stringContaining('larger than') } },
  ]);
  expect(parse).not.toHaveBeenCalled();
  parse.mockRestore();
  expect(await readEvenDamaged(repository.destination, key)).toMatchObject({ damage: { code: 'OBJECT_DAMAGED' } });
});

test('a document that is larger than any that is stored now can be read', async () => {
  const text = 'x'.repeat(2 * MAX_RECORD);
  const place = inMemory('main', new Map([['a', text]]));
  expect((await readDocument(place, 'a')).toString()).toBe(text);
});

test.each(['databases', 'warnings', 'sources'])('only the first of a million faults is described (%s)', (field) => {
  const item = field === 'databases' ? {} : 1;
  const source = {
    ...{ kind: 'postgres', status: 'ok', files: 1, bytes: 1, newBytes: 1, newFiles: 1, summary: '', skipped: {} },
    ...{ warnings: [], [field]: Array(10_000).fill(item) },
  };
  const sources = field === 'sources' ? { ...Array(10_000).fill(item) } : { db: source };
  const time = '2026-11-20T03:00:00.000Z';
  const manifest = {
    ...{
      format: 1,
      id: '20261120T030000Z-4f1c9a',
      project: 'shop',
      sequence: 1,
      previous: null,
      start: time,
      end: time,
    },
    ...{ trigger: 'schedule', agentVersion: '0', status: 'ok', sources },
  };
  let error: unknown;
  try {
    decodeManifest(Buffer.from(JSON.stringify(manifest)));
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'OBJECT_DAMAGED', message: 'the manifest is damaged' });
  expect((error as Error).cause).toHaveProperty('issues.length', 1);
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
