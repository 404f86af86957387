import {
  chmodSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type VerifiedTree, verifyTree } from '../../../src/store/content/verify-tree.ts';
import { readIndexFileLines } from '../../../src/store/filesystem/read-index.ts';
import { type Bench, createBench } from '../helpers.ts';

let bench: Bench;
let target: string;
beforeEach(async () => {
  bench = createBench();
  mkdirSync(join(bench.tree, 'dir/deep'), { recursive: true });
  writeFileSync(join(bench.tree, 'dir/one'), 'one');
  writeFileSync(join(bench.tree, 'dir/deep/two'), 'x'.repeat(100_000));
  writeFileSync(join(bench.tree, 'empty'), '');
  linkSync(join(bench.tree, 'dir/one'), join(bench.tree, 'other name'));
  symlinkSync('dir/one', join(bench.tree, 'link'));
  for (const name of ['dir/one', 'dir/deep/two', 'dir/deep', 'dir']) utimesSync(join(bench.tree, name), 1000, 1000);
  const stored = await bench.store();
  ({ target } = await bench.extract(stored, { durable: true }));
});
afterEach(() => bench.remove());

const verify = () => verifyTree({ root: target, index: readIndexFileLines(bench.index) });
const counts = ({ names, properties, contents }: VerifiedTree) => [names.count, properties.count, contents.count];
const words = ({ names, properties, contents }: VerifiedTree) => [names, properties, contents].flatMap((o) => o.first);

/** Runs a change and gives the time of the directories back, so that only the change itself differs. */
function only(change: () => void) {
  change();
  for (const name of ['dir/deep', 'dir'])
    if (existsSync(join(target, name))) utimesSync(join(target, name), 1000, 1000);
}

/** Keeps the time of a file, as a disk does that returns other bytes. */
function quietly(name: string, change: (path: string) => void) {
  const path = join(target, name);
  change(path);
  utimesSync(path, 1000, 1000);
}

const FAULTS: Record<string, [change: () => void, words: string]> = {
  'a flipped bit': [
    () =>
      quietly('dir/deep/two', (path) => {
        const bytes = readFileSync(path);
        bytes[50_000]! ^= 1;
        writeFileSync(path, bytes);
      }),
    'dir/deep/two: the content is not the recorded one',
  ],
  'a file with other content of the same size': [
    () => quietly('dir/one', (path) => writeFileSync(path, 'two')),
    'dir/one: the content is not the recorded one',
  ],
  'a cut file': [
    () => quietly('dir/deep/two', (path) => truncateSync(path, 99_999)),
    'dir/deep/two: size 99999, recorded 100000',
  ],
  'a missing file': [() => unlinkSync(join(target, 'dir/deep/two')), 'dir/deep/two is missing'],
  'a missing directory': [() => rmSync(join(target, 'dir/deep'), { recursive: true }), 'dir/deep is missing'],
  'an extra file': [() => writeFileSync(join(target, 'dir/new'), ''), 'dir/new is not in the record'],
  'an extra directory': [() => mkdirSync(join(target, 'dir/more')), 'dir/more is not in the record'],
  'another name': [
    () => renameSync(join(target, 'dir/deep/two'), join(target, 'dir/deep/three')),
    'dir/deep/three is not in the record',
  ],
  'another owner': [() => lchownSync(join(target, 'dir/deep/two'), 33, 0), 'dir/deep/two: owner 33:0, recorded 0:0'],
  'another mode': [() => chmodSync(join(target, 'dir/deep/two'), 0o4755), 'dir/deep/two: mode 4755, recorded 644'],
  'another time': [
    () => utimesSync(join(target, 'dir/deep/two'), 1000, 1000.5),
    'dir/deep/two: time 1000.500000000, recorded 1000.000000000',
  ],
  'another owner of a directory': [() => lchownSync(join(target, 'dir'), 0, 7), 'dir: owner 0:7, recorded 0:0'],
  'another mode of a directory': [() => chmodSync(join(target, 'dir/deep'), 0o777), 'dir/deep: mode 777, recorded 755'],
  'another mode of the root': [() => chmodSync(target, 0o700), '.: mode 700, recorded 755'],
  'another owner of a symlink': [() => lchownSync(join(target, 'link'), 1, 1), 'link: owner 1:1, recorded 0:0'],
  'another target of a symlink': [
    () => {
      unlinkSync(join(target, 'link'));
      symlinkSync('dir/two', join(target, 'link'));
    },
    'target dir/two, recorded dir/one',
  ],
  'a file in place of a symlink': [
    () => {
      unlinkSync(join(target, 'link'));
      writeFileSync(join(target, 'link'), 'one');
    },
    'link: a file, recorded a symlink',
  ],
  'a copy in place of a hard link': [
    () => {
      unlinkSync(join(target, 'other name'));
      writeFileSync(join(target, 'other name'), 'one');
      utimesSync(join(target, 'other name'), 1000, 1000);
    },
    'other name: not the same file as dir/one',
  ],
};

describe('verifying a restored tree', () => {
  test('finds nothing in a good one, and reads each file once', async () => {
    const result = await verify();
    expect(words(result)).toEqual([]);
    expect(counts(result)).toEqual([0, 0, 0]);
    expect(result.read).toBe(3);
  });

  test.each(Object.keys(FAULTS))('finds %s', async (name) => {
    const [change, found] = FAULTS[name] as [() => void, string];
    only(change);
    const result = await verify();
    expect(words(result).join('\n')).toContain(found);
  });

  test('names the first differences of many, and counts all', async () => {
    only(() => {
      for (let i = 0; i < 30; i++) writeFileSync(join(target, `dir/new ${i}`), '');
    });
    const { names } = await verify();
    expect({ count: names.count, named: names.first.length }).toEqual({ count: 30, named: 20 });
  });
});
