import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refuseUnsoundDumps } from '../../../../src/sources/postgres/dump/dump-files.ts';
import { hasWholeFrames } from '../../../../src/sources/postgres/dump/zstd-frames.ts';
import type { DumpCompression } from '../../../../src/sources/postgres/server/commands.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lifeboat-dump-files-'));
  writeFileSync(path.join(root, 'globals.sql'), '');
  for (const name of ['shop', 'other']) {
    const directory = path.join(root, 'databases', name);
    mkdirSync(directory, { recursive: true });
    writeFileSync(path.join(directory, 'toc.dat'), 'PGDMP');
    writeFileSync(path.join(directory, '7.dat.zst'), ROWS);
    writeFileSync(path.join(directory, 'blob_16400.dat.zst'), ROWS);
    // An empty large object has an empty file.
    writeFileSync(path.join(directory, 'blob_16401.dat.zst'), '');
    writeFileSync(path.join(directory, 'blobs_9.toc'), '16400 blob_16400.dat\n16401 blob_16401.dat\n');
  }
});
afterEach(() => rmSync(root, { recursive: true }));

const ROWS = zstdCompressSync('1\tone\n\\.\n\n\n');
const dumpIds = new Set([7, 8, 9]);
const dumps = ['shop', 'other'].map((name) => ({ name, dumpIds }));
const at = (...names: string[]) => path.join(root, 'databases', ...names);

/** Checks the tree. Returns the messages about each refused database, and the warnings. */
async function check(
  compression: DumpCompression = 'zstd',
  largeObjectBytes?: number,
): Promise<{ refused: string[]; warnings: string[] }> {
  const { refused, warnings } = await refuseUnsoundDumps({
    ...{ root, dumps: dumps.map((dump) => ({ ...dump, largeObjectBytes })), failed: ['broken'], compression },
    signal: new AbortController().signal,
  });
  return { refused: refused.map(({ error }) => (error as Error).message), warnings };
}

test('dumps with the files that their tables of contents name stay', async () => {
  expect(await check()).toEqual({ refused: [], warnings: [] });
  expect(existsSync(at('shop', '7.dat.zst'))).toBe(true);
});

test.each<[string, RegExp, () => void]>([
  ['a FIFO', /"zz.fifo", which is not a plain file/, () => execFileSync('mkfifo', [at('shop', 'zz.fifo')])],
  [
    'a FIFO with the name of rows',
    /"8.dat.zst", which is not/,
    () => execFileSync('mkfifo', [at('shop', '8.dat.zst')]),
  ],
  ['a link', /"x", which is a symbolic link/, () => symlinkSync('/etc/passwd', at('shop', 'x'))],
  ['a directory', /"x", which is a directory/, () => mkdirSync(at('shop', 'x'))],
  ['a huge file', /"zz.dat", which its table of contents does not name/, () => sparse(at('shop', 'zz.dat'))],
  ['rows of no table', /"10.dat.zst", which its/, () => writeFileSync(at('shop', '10.dat.zst'), ROWS)],
  ['rows twice', /"7.dat", which its/, () => writeFileSync(at('shop', '7.dat'), 'x')],
  ['a padded name', /"07.dat.zst", which its/, () => writeFileSync(at('shop', '07.dat.zst'), ROWS)],
  ['a large object too many', /1 large object more/, () => writeFileSync(at('shop', 'blob_1.dat.zst'), ROWS)],
  ['a large object too few', /lacks large objects/, () => rmSync(at('shop', 'blob_16400.dat.zst'))],
  ['a huge list', /lacks large objects/, () => sparse(at('shop', 'blobs.toc'))],
  ['a huge table of contents', /huge table of contents/, () => sparse(at('shop', 'toc.dat'))],
  ['other bytes', /"7.dat.zst" is not a complete zstd file/, () => writeFileSync(at('shop', '7.dat.zst'), 'garbage')],
  ['no bytes', /"7.dat.zst" is not a complete/, () => writeFileSync(at('shop', '7.dat.zst'), '')],
  ['a longer file', /"7.dat.zst" is not a complete/, () => truncateSync(at('shop', '7.dat.zst'), 2 ** 40)],
  ['a link instead of the directory', /is not a directory/, () => swap('/etc')],
  ['no directory', /is not a directory/, () => rmSync(at('shop'), { recursive: true })],
])('%s in a dump takes only that database with it', async (_, message, damage) => {
  damage();
  expect(await check()).toEqual({ refused: [expect.stringMatching(message)], warnings: [] });
  expect(existsSync(at('shop'))).toBe(false);
  expect(existsSync(at('other', '7.dat.zst'))).toBe(true);
  expect(existsSync('/etc/passwd')).toBe(true);
});

describe('without compression', () => {
  const PLAIN = '1\tone\n\\.\n\n\n';
  beforeEach(() => {
    for (const name of ['shop', 'other']) {
      for (const file of ['7.dat', 'blob_16400.dat', 'blob_16401.dat']) rmSync(at(name, `${file}.zst`));
      writeFileSync(at(name, '7.dat'), PLAIN);
      writeFileSync(at(name, 'blob_16400.dat'), 'anything');
      writeFileSync(at(name, 'blob_16401.dat'), '');
    }
  });

  test('dumps with the files that their tables of contents name stay', async () => {
    writeFileSync(at('other', '7.dat'), '\\.\n\n\n');
    expect(await check('none')).toEqual({ refused: [], warnings: [] });
    expect(await check('none', 'anything'.length)).toEqual({ refused: [], warnings: [] });
  });

  test('a cut large object, which has no mark at its end, takes only its database with it', async () => {
    truncateSync(at('shop', 'blob_16400.dat'), 5);
    const refused = ['the dump of shop is damaged: its large objects have 5 bytes, and 8 in the database'];
    expect(await check('none', 'anything'.length)).toEqual({ refused, warnings: [] });
    expect(existsSync(at('other', '7.dat'))).toBe(true);
  });

  test.each<[string, RegExp, () => void]>([
    [
      'rows without their last byte',
      /"7.dat" lacks the end/,
      () => truncateSync(at('shop', '7.dat'), PLAIN.length - 1),
    ],
    ['no bytes', /"7.dat" lacks the end/, () => writeFileSync(at('shop', '7.dat'), '')],
    ['other bytes', /"7.dat" lacks the end/, () => writeFileSync(at('shop', '7.dat'), 'x'.repeat(100))],
    ['a longer file', /"7.dat" lacks the end/, () => truncateSync(at('shop', '7.dat'), 2 ** 40)],
    ['compressed rows', /"8.dat.zst", which its/, () => writeFileSync(at('shop', '8.dat.zst'), ROWS)],
  ])('%s in a dump takes only that database with it', async (_, message, damage) => {
    damage();
    expect(await check('none')).toEqual({ refused: [expect.stringMatching(message)], warnings: [] });
    expect(existsSync(at('other', '7.dat'))).toBe(true);
  });
});

test('what belongs to no database is removed, and a failed dump without a warning', async () => {
  mkdirSync(at('broken', 'deep'), { recursive: true });
  mkdirSync(at('ghost'));
  sparse(at('stray'));
  sparse(path.join(root, 'surplus'));
  mkdirSync(path.join(root, 'globals.d'));
  const { refused, warnings } = await check();
  expect(refused).toEqual([]);
  expect(warnings).toEqual([
    expect.stringMatching(/^not stored: .*"(surplus|globals.d)" and 3 others, which do not belong in a dump$/),
  ]);
  for (const gone of [
    at('broken'),
    at('ghost'),
    at('stray'),
    path.join(root, 'surplus'),
    path.join(root, 'globals.d'),
  ]) {
    expect(existsSync(gone), gone).toBe(false);
  }
  expect(existsSync(path.join(root, 'globals.sql'))).toBe(true);
});

test('zstd frames are complete or not, whatever their content', async () => {
  const file = path.join(root, 'frame');
  const random = Buffer.concat(Array.from({ length: 5000 }, (_, i) => Buffer.from(`${Math.sin(i)}`)));
  for (const content of ['', 'x', 'y'.repeat(1_000_000), random, Buffer.alloc(300_000)]) {
    const frame = zstdCompressSync(content);
    for (const [bytes, whole] of [
      [frame, true],
      [Buffer.concat([frame, frame]), true],
      [frame.subarray(0, -1), false],
      [Buffer.concat([frame, Buffer.from([0])]), false],
    ] as const) {
      writeFileSync(file, bytes);
      expect(await hasWholeFrames(file)).toBe(whole);
    }
  }
});

function sparse(file: string): void {
  if (!existsSync(file)) writeFileSync(file, '');
  truncateSync(file, 2 ** 42);
}

function swap(target: string): void {
  rmSync(at('shop'), { recursive: true });
  symlinkSync(target, at('shop'));
}
