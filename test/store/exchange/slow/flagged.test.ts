import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import type { BuildOptions } from '../../../../src/store/exchange/build-tree.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { shortPath } from '../../../../src/store/filesystem/path.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';
import { createVolumeBench, ID, SECOND, THIRD, type VolumeBench } from '../volume-bench.ts';

/** Files and directories with the flags of `chattr +i` and `+a`: not even root can move or delete them. */

const chattr = (flag: string, ...paths: string[]) => execFileSync('chattr', [flag, ...paths]);

let bench: Bench;
let volume: string;
let agent: VolumeBench;
beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  agent = createVolumeBench(bench, volume);
  for (const root of [bench.tree, volume]) {
    mkdirSync(join(root, 'd/sub'), { recursive: true });
    for (const path of ['f', 'd/g', 'd/sub/h']) writeFileSync(join(root, path), `${path} of ${root}`);
  }
  writeFileSync(join(bench.tree, 'd/added'), 'added');
});
afterEach(() => {
  execFileSync('chattr', ['-R', '-f', '-i', '-a', volume]);
  bench.remove();
});

const build = (stored: StoredTree, options: Partial<BuildOptions> = {}) =>
  agent.build(stored, { overwrite: true, ...options });

test.each([
  ['+i', 'f', undefined],
  ['+a', 'f', undefined],
  ['+i', 'd', undefined],
  ['+a', 'd', undefined],
  ['+i', '', undefined],
  ['+a', '', undefined],
  ['+i', 'd/sub/h', 'd/sub'],
  ['+a', 'd', 'd/added'],
  ['+i', 'd', 'd/added'],
  ['+a', 'd/sub', 'd/sub/h'],
])(
  'a restore that would change a path with %s (%s) is refused before it builds, and names the path',
  async (flag, path, part) => {
    const stored = await bench.store();
    chattr(flag, join(volume, path));
    const former = describeTree(volume);
    const built = build(stored, part === undefined ? {} : { select: selectByGlobs([part]) });
    const named = path === '' ? 'volume cannot be changed' : 'immutable or append-only';
    await expect(built).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED', message: expect.stringContaining(named) });
    chattr(flag.replace('+', '-'), join(volume, path));
    expect(describeTree(volume)).toEqual(former);
  },
);

test('deeper inside they move with their directory, can be rolled back, and are deleted only once the flag is off', async () => {
  const stored = await bench.store();
  chattr('+i', join(volume, 'd/sub/h'));
  await build(stored);
  await agent.swap();
  await agent.back(SECOND);
  expect(readFileSync(join(volume, 'd/sub/h'), 'utf8')).toBe(`d/sub/h of ${volume}`);
  await agent.back(THIRD);

  const forget = () => agent.forget();
  const area = join(volume, `.lifeboat-before-${THIRD}`);
  await expect(forget()).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringContaining('deleted'),
  });
  // Everything else is deleted already, so the area is not brought back.
  expect(existsSync(join(area, 'tree/d/sub/h'))).toBe(true);
  expect(existsSync(join(area, 'tree/f'))).toBe(false);
  await expect(agent.back(SECOND)).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
  chattr('-i', join(area, 'tree/d/sub/h'));
  await forget();
  expect(readdirSync(volume)).toEqual(['d', 'f']);
});

test('the check refuses a rollback that would move one, and nothing changes', async () => {
  const stored = await bench.store();
  await build(stored);
  await agent.swap();
  const data = () => [...describeTree(volume)].filter(([path]) => path !== '' && !path.startsWith('.lifeboat-'));
  const restored = data();
  const check = () => agent.back(SECOND, ID, { check: true });
  expect(await check()).toMatchObject({ swapMs: 0 });
  chattr('+i', join(volume, 'f'));
  await expect(check()).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: 'f cannot be moved: it, or its directory, is immutable or append-only',
  });
  // The same without a check before it.
  await expect(agent.back(SECOND)).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(data()).toEqual(restored);
});

test('they are backed up like any other file', async () => {
  chattr('+i', join(bench.tree, 'f'), join(bench.tree, 'd'));
  try {
    const stored = await bench.store();
    expect(stored).toMatchObject({ unreadableCount: 0, files: 4 });
    const { target } = await bench.extract(stored);
    expect(describeTree(target)).toEqual(describeTree(bench.tree));
  } finally {
    chattr('-i', join(bench.tree, 'f'), join(bench.tree, 'd'));
  }
});

test('checking whether a name can be moved moves nothing', async () => {
  mkdirSync(join(volume, 'empty'));
  utimesSync(volume, 5, 5);
  const ino = statSync(join(volume, 'empty')).ino;
  await build(await bench.store());
  expect(statSync(join(volume, 'empty')).ino).toBe(ino);
  expect(readdirSync(volume).filter((name) => !name.startsWith('.'))).toEqual(['d', 'empty', 'f']);
});

test('messages shorten a path of 4 KB', () => {
  const long = `${'d\xc3\xa4/'.repeat(1000)}end`;
  expect(shortPath(long)).toMatch(/^dä\/.*….*\/end$/);
  expect(shortPath(long).length).toBeLessThan(250);
  expect(shortPath('a/b')).toBe('a/b');
});

test('new data of a failed restore that cannot be removed at once is recognised and removed later', async () => {
  const stored = await bench.store();
  const former = describeTree(volume);
  const file = join(volume, `.lifeboat-restoring-${ID}`, 'tree/d/sub/h');
  const progress = () => {
    if (!existsSync(file)) return;
    chattr('+i', file);
    throw new Error('stopped');
  };
  await expect(build(stored, { progress })).rejects.toThrow('stopped');
  expect(existsSync(file)).toBe(true);
  chattr('-i', file);
  expect(await agent.undo()).toBe('old');
  expect(agent.areas()).toEqual([]);
  expect(describeTree(volume)).toEqual(former);
});
