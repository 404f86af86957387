import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { nameScratch, scratchFor } from '../../../harness/scratch.ts';
import { times } from '../../../harness/times.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';

/** On a slow disk, each of these tests takes many minutes. */
const LONG = { timeout: 1_800_000 };

let bench: Bench;
beforeEach(() => {
  bench = createBench(16 * 1024 * 1024);
});
afterEach(() => bench.remove());

function makeFiles(root: string, count: number, perDirectory = 1000): void {
  for (let i = 0; i < count; i++) {
    const directory = join(root, `d${Math.floor(i / perDirectory)}`);
    if (i % perDirectory === 0) mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `f${i}`), String(i));
  }
}

/** Writes every pack to disk as a plain zip. */
function plainPacks(packs: { key: string }[]): string[] {
  const repository = join(bench.tree, '../repo');
  return packs.map(({ key }, i) => {
    const zip = join(bench.spool, `${i}.zip`);
    const file = join(repository, key);
    execFileSync('sh', ['-c', key.endsWith('.zst') ? 'zstd -qdc "$1" > "$2"' : 'ln "$1" "$2"', 'sh', file, zip]);
    return zip;
  });
}

const PYTHON = `
import sys, zipfile
count = 0
for path in sys.argv[1:]:
    with zipfile.ZipFile(path) as z:
        assert z.testzip() is None, path
        count += len(z.namelist())
print(count)`;

describe('big trees', () => {
  test('70,000 small files: unzip and Python agree, and everything is restored', LONG, async () => {
    makeFiles(bench.tree, 70_000);
    const stored = await bench.store();
    expect(stored).toMatchObject({ files: 70_000, newFiles: 70_000 });
    const zips = plainPacks(stored.packs);
    for (const zip of zips) execFileSync('unzip', ['-tqq', zip]);
    expect(Number(execFileSync('python3', ['-c', PYTHON, ...zips], { encoding: 'utf8' }))).toBe(70_000);
    const { target } = await bench.extract(stored);
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
  });

  test('a sparse file of 5 GiB: unzip and Python agree, and it is restored with its hole', LONG, async () => {
    const size = 5 * 1024 ** 3 + 1;
    const fd = openSync(join(bench.tree, 'disk.img'), 'w');
    for (const at of [0, 2 ** 32 - 2, size - 5]) writeSync(fd, 'bytes', at);
    ftruncateSync(fd, size);
    closeSync(fd);
    const stored = await bench.store();
    expect(stored).toMatchObject({ files: 1, bytes: size, changed: [] });
    expect(stored.newBytes).toBeLessThan(10 * 1024 * 1024);
    const { target } = await bench.extract(stored);
    const restored = join(target, 'disk.img');
    execFileSync('cmp', [join(bench.tree, 'disk.img'), restored]);
    expect(lstatSync(restored).blocks * 512).toBeLessThan(1024 * 1024);
    expect(readdirSync(bench.spool)).toEqual([]);
    const zips = plainPacks(stored.packs);
    execFileSync('unzip', ['-tqq', zips[0]!]);
    // A part for each range of data.
    expect(Number(execFileSync('python3', ['-c', PYTHON, ...zips], { encoding: 'utf8' }))).toBe(3);
  });
});

describe('memory', () => {
  // A million takes six minutes of processor time. The limit for fewer files finds the same growth for each file.
  const count = Number(process.env.LIFEBOAT_ENTRIES ?? times(150_000, 250_000));
  const limit = 220e6 + 80 * count;
  const script = fileURLToPath(new URL('./store-and-extract.ts', import.meta.url));
  // In memory if the machine has enough: a million files on a disk take minutes to create. The tree, the packs, and the
  // restored tree: a page of memory for each file of either tree.
  const base = nameScratch(scratchFor(count * 10_000), 'lifeboat-million');
  afterEach(() => rmSync(base, { recursive: true, force: true }));

  test(`${count} files: below ${limit / 1e6} MB for storing, the next run, and restoring`, LONG, () => {
    makeFiles(join(base, 'tree'), count);
    for (const step of ['store', 'again', 'extract']) {
      const { stdout, stderr } = spawnSync(
        process.execPath,
        ['--max-old-space-size=160', '--max-semi-space-size=1', '--heap-growing-percent=300', script, step, base],
        {
          encoding: 'utf8',
        },
      );
      expect(stderr).toBe('');
      const { files, maxRss } = JSON.parse(stdout) as { files: number; maxRss: number };
      expect(files).toBe(count);
      expect(maxRss, step).toBeLessThan(limit);
    }
  });
});
