import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { UploadLog } from '../../../src/destinations/s3/uploads.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-uploads-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const left = async (recent?: Parameters<UploadLog['left']>[0]) =>
  (await new UploadLog(directory).left(recent)).map(({ key }) => key).sort();

test('what this process is uploading is not left over, whichever part of it does', async () => {
  const log = new UploadLog(directory);
  const key = 'shop/wal/db/1/segment';
  // Twice at the same time, as after a lost answer.
  await log.during(key, async () => {
    await log.during(key, async () => void log.record(key));
    log.record('shop/packs/dead');
    expect(await left()).toEqual(['shop/packs/dead']);
  });
  expect(await left()).toEqual(['shop/packs/dead', key]);
  await expect(log.during(key, () => Promise.reject(new Error('cut off')))).rejects.toThrow('cut off');
  expect(await left()).toHaveLength(2);
});

test('where other processes store as well, only old uploads are left over', async () => {
  const log = new UploadLog(directory);
  for (const key of ['shop/packs/dead', 'shop/wal/recent']) log.record(key);
  const { file } = log.record('shop/wal/dead');
  const yesterday = new Date(Date.now() - 24 * 60 * 60_000);
  utimesSync(file, yesterday, yesterday);
  const recent = { prefix: 'shop/wal/', olderThanMs: 60 * 60_000 };
  expect(await left(recent)).toEqual(['shop/packs/dead', 'shop/wal/dead']);
  // Another process may be writing it.
  const cut = log.record('shop/wal/new').file;
  writeFileSync(cut, '');
  expect(await left(recent)).toEqual(['shop/packs/dead', 'shop/wal/dead']);
  utimesSync(cut, yesterday, yesterday);
  expect(await left(recent)).toEqual(['', 'shop/packs/dead', 'shop/wal/dead']);
});
