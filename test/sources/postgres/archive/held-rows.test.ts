import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readArchive } from '../../../../src/sources/postgres/archive/archive.ts';
import { tablesWithRows } from '../../../../src/sources/postgres/archive/held-rows.ts';

const TOC = path.join(import.meta.dirname, '../dumps/17.toc.dat');
const ORDERS = { schema: 'public', name: 'orders' };
/** pg_dump ends the rows of each table with this. */
const END = Buffer.from('\\.\n\n\n');
const rows = Buffer.from(Array.from({ length: 5000 }, (_, i) => `${i}\t${i * 7919}\n`).join(''));

let dump: string;
beforeEach(() => {
  dump = mkdtempSync(path.join(tmpdir(), 'lifeboat-dump-'));
  copyFileSync(TOC, path.join(dump, 'toc.dat'));
});
afterEach(() => rmSync(dump, { recursive: true }));

const file = () =>
  readArchive(readFileSync(TOC)).find((one) => `${one.kind} ${one.schema} ${one.tag}` === 'TABLE DATA public orders')
    ?.file as string;

test.each([
  ['', (bytes: Buffer) => bytes],
  ['.gz', gzipSync],
  ['.zst', zstdCompressSync],
])('a dump tells whether it has rows of a table: *.dat%s', async (suffix, compress) => {
  writeFileSync(path.join(dump, file() + suffix), compress(END));
  expect(await tablesWithRows(dump, [ORDERS])).toEqual([]);
  writeFileSync(path.join(dump, file() + suffix), compress(Buffer.concat([rows, END])));
  expect(await tablesWithRows(dump, [ORDERS, { schema: 'public', name: 'other' }])).toEqual([ORDERS]);
});
