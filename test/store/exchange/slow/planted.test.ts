import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Destination } from '../../../../src/destinations/destination.ts';
import { compareTree } from '../../../../src/store/content/compare-tree.ts';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import { TreeSum } from '../../../../src/store/content/tree-sum.ts';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import { OpenDirectories } from '../../../../src/store/filesystem/open-directories.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { createTimeSetter, PathChanged } from '../../../../src/store/filesystem/times.ts';
import { walk } from '../../../../src/store/filesystem/walk.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';
import { AT, createVolumeBench, ID, identityAt, SECOND, type VolumeBench } from '../volume-bench.ts';

/** Other programs write to a volume while Lifeboat works on it, and try to redirect it. */

let bench: Bench;
let volume: string;
let agent: VolumeBench;
/** a directory that must stay untouched, with the same names as the snapshot */
let outside: string;
let untouched: Map<string, unknown>;
let area: string;

beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  agent = createVolumeBench(bench, volume);
  outside = join(bench.spool, '..', 'outside');
  area = join(volume, `.lifeboat-restoring-${ID}`);
  mkdirSync(volume);
  for (const root of [bench.tree, outside]) {
    mkdirSync(join(root, 'a/b'), { recursive: true });
    for (const path of ['a/1', 'a/b/2', 'top']) writeFileSync(join(root, path), `${path} of ${root}`);
  }
  mkdirSync(join(bench.tree, 'late'));
  symlinkSync('a', join(bench.tree, 'late/link'));
  for (const path of ['a', 'a/b']) chmodSync(join(bench.tree, path), 0o777);
  // Does not exist yet: anything created by mistake shows up here.
  rmSync(join(outside, 'a/b/2'));
  for (const path of ['a/b', 'a', 'a/1', 'top', '']) utimesSync(join(outside, path), 1, 1);
  untouched = describeTree(outside);
});
afterEach(() => {
  expect(describeTree(outside)).toEqual(untouched);
  bench.remove();
});

/** Replaces a name by something that leads to a directory with the same names as the tree. */
function plant(path: string, target: string): void {
  renameSync(path, join(volume, 'moved'));
  symlinkSync(target, path);
}

/** Builds the tree. `disturb` is called before the first file is written, or before a later one. */
async function build(stored: StoredTree, disturb: () => void, before = 1) {
  let asked = 0;
  const { destination } = bench;
  const disturbing: Destination = {
    name: destination.name,
    put: (...args) => destination.put(...args),
    list: (...args) => destination.list(...args),
    delete: (...args) => destination.delete(...args),
    get: async (...args) => {
      if (++asked === before) disturb();
      return destination.get(...args);
    },
  };
  const built = buildFrom(stored, disturbing);
  const code = await built.then(
    () => 'built',
    (error) => error.code ?? String(error),
  );
  expect(asked).toBeGreaterThanOrEqual(before);
  return code;
}

function buildFrom(stored: StoredTree, destination = bench.destination) {
  return agent.build(stored, { destination });
}

/** Stores the tree with each file in a pack of its own, so that each is fetched by itself. */
async function storeInPacks(): Promise<StoredTree> {
  const previous = `${bench.index}-before`;
  const include: string[] = [];
  let stored: StoredTree | undefined;
  for (const { path, type } of await walkAll()) {
    if (type !== 'file') continue;
    include.push(path);
    if (stored) copyFileSync(bench.index, previous);
    stored = await bench.store({ include, ...(stored && { previous: { indexPath: previous, packs: stored.packs } }) });
  }
  copyFileSync(bench.index, previous);
  return bench.store({ previous: { indexPath: previous, packs: stored?.packs ?? [] } });
}

async function walkAll() {
  const found: { path: string; type: string }[] = [];
  for await (const { path, stat } of walk(bench.tree)) found.push({ path, type: stat?.type ?? '' });
  return found;
}

describe('while a tree is built', () => {
  test.each([
    ['a directory of the tree', () => plant(join(area, 'tree/a'), join(outside, 'a'))],
    ['a directory in it', () => plant(join(area, 'tree/a/b'), join(outside, 'a/b'))],
    ['the tree', () => plant(join(area, 'tree'), outside)],
    ['the area', () => plant(area, outside)],
  ])('a symlink in the place of %s is not followed, and nothing is replaced', async (what, disturb) => {
    writeFileSync(join(volume, 'live'), 'live');
    const stored = await storeInPacks();
    // Moving the tree inside the area takes root. The exchange detects that it is gone.
    expect(await build(stored, disturb)).toBe(what === 'the tree' ? 'built' : 'TREE_TARGET_REFUSED');
    if (agent.built[ID]) await expect(agent.swap()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(readFileSync(join(volume, 'live'), 'utf8')).toBe('live');
    expect(await agent.undo()).toBe('old');
  });

  test('a symlink that replaces a complete directory gets no owner, mode or time', async () => {
    const stored = await storeInPacks();
    const code = await build(stored, () => plant(join(area, 'tree/a'), join(outside, 'a')), 3);
    expect(code).toBe('TREE_TARGET_REFUSED');
  });

  test('a replaced directory, or an added file, is detected', async () => {
    const stored = await storeInPacks();
    for (const disturb of [
      () => {
        renameSync(join(area, 'tree/a'), join(volume, 'moved'));
        mkdirSync(join(area, 'tree/a'));
      },
      () => writeFileSync(join(area, 'tree/late/planted'), ''),
      () => symlinkSync(join(outside, 'top'), join(area, 'tree/top')),
    ]) {
      expect(await build(stored, disturb, 3)).toBe('TREE_TARGET_REFUSED');
      expect(readdirSync(volume).filter((name) => name !== 'moved')).toEqual([]);
      rmSync(join(volume, 'moved'), { recursive: true, force: true });
    }
  });

  test('a change after the last check is reported as such, not as a failed tool', async () => {
    const stored = await storeInPacks();
    const looked = vi.spyOn(TreeSum.prototype, 'matches').mockImplementationOnce(async () => {
      plant(join(area, 'tree/a'), join(outside, 'a'));
      return true;
    });
    await expect(buildFrom(stored)).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining('a is not the directory that Lifeboat made'),
    });
    expect(looked).toHaveBeenCalledTimes(1);
    looked.mockRestore();
  });

  test('a directory that replaced the built one is not moved into place', async () => {
    writeFileSync(join(volume, 'live'), 'live');
    await buildFrom(await storeInPacks());
    renameSync(join(area, 'tree'), join(area, 'aside'));
    mkdirSync(join(area, 'tree'));
    await expect(agent.swap()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(readFileSync(join(volume, 'live'), 'utf8')).toBe('live');
    rmSync(join(area, 'tree'), { recursive: true });
    renameSync(join(area, 'aside'), join(area, 'tree'));
    await agent.swap();
    expect(existsSync(join(volume, 'live'))).toBe(false);
    expect(existsSync(join(volume, 'a/b/2'))).toBe(true);
  });

  test.each([
    ['too large', `${JSON.stringify({ mtime: '5' })}${' '.repeat(5000)}`],
    ['another time', JSON.stringify({ mtime: '5' })],
  ])('what an application wrote about the root is not believed: %s', async (_what, text) => {
    await buildFrom(await storeInPacks());
    const before = lstatSync(volume);
    writeFileSync(join(area, 'base.json'), text);
    expect(await agent.undo()).toBe('old');
    // Without its proof, the directory is not the one that Lifeboat made.
    expect(existsSync(join(area, 'tree/top'))).toBe(true);
    expect(lstatSync(volume)).toMatchObject({ mode: before.mode, mtimeMs: before.mtimeMs });
  });

  test('an equal file is not read through a symlink', async () => {
    execFileSync('cp', ['-a', `${bench.tree}/.`, volume]);
    const stored = await storeInPacks();
    rmSync(join(volume, 'a'), { recursive: true });
    // The same files, in another place.
    execFileSync('cp', ['-a', join(bench.tree, 'a'), join(bench.spool, 'a')]);
    symlinkSync(join(bench.spool, 'a'), join(volume, 'a'));
    // Without the symlink, three files could be copied.
    expect(await build(stored, () => {}, 2)).toBe('built');
  });
});

describe('areas that are symlinks', () => {
  const before = `.lifeboat-before-${ID}`;

  test('are not areas: they are not read, emptied or written to', async () => {
    mkdirSync(join(outside, 'fake/tree'), { recursive: true });
    const list = { format: 1, id: ID, restore: ID, holds: 'before', at: AT, incoming: { text: `${before}/tree` } };
    writeFileSync(join(outside, 'fake/list.ndjson'), `${JSON.stringify({ ...list, whole: true })}\n`);
    writeFileSync(join(outside, 'fake/base.json'), JSON.stringify({ mode: 0o777, uid: 5, gid: 5, mtime: '5' }));
    untouched = describeTree(outside);
    for (const name of [before, `.lifeboat-restoring-${ID}`]) symlinkSync(join(outside, 'fake'), join(volume, name));
    const owner = lstatSync(volume).uid;
    agent.records[ID] = {
      area: ID,
      identity: identityAt(join(outside, 'fake')),
      list: 'x',
      size: 1,
      root: identityAt(volume),
    };
    agent.journal[ID] = { before: identityAt(join(outside, 'fake')), restoring: identityAt(join(outside, 'fake')) };
    expect(await agent.list()).toMatchObject([{ refused: 'it is another directory than the recorded one' }]);
    await expect(agent.forget()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    await expect(agent.back(SECOND)).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(await agent.undo()).toBe('old');
    expect(lstatSync(volume).uid).toBe(owner);
  });

  test('an area with an unreadable list does not hide the others; an area without a list is not emptied', async () => {
    mkdirSync(join(volume, before, 'tree'), { recursive: true });
    writeFileSync(join(volume, before, 'tree/old'), 'all there is');
    const known = {
      area: ID,
      identity: identityAt(join(volume, before)),
      list: 'x',
      size: 1,
      root: identityAt(volume),
    };
    agent.records[ID] = known;
    agent.records[SECOND] = { ...known, area: SECOND };
    agent.journal[ID] = { before: known.identity, list: 'x', size: 1, root: identityAt(volume) };
    await expect(agent.undo()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    execFileSync('mkfifo', [join(volume, before, 'list.ndjson')]);
    expect(await agent.list()).toMatchObject([
      { id: ID, refused: 'its list of moves has changed' },
      { id: SECOND, refused: expect.anything() },
    ]);
    expect(readFileSync(join(volume, before, 'tree/old'), 'utf8')).toBe('all there is');
  });
});

describe('reading', () => {
  test('a walk and a comparison do not enter a symlink that replaces a directory', async () => {
    const stored = await storeInPacks();
    const found: string[] = [];
    for await (const { path } of walk(bench.tree)) {
      found.push(path);
      if (path !== 'a') continue;
      renameSync(join(bench.tree, 'a'), join(bench.spool, 'moved'));
      symlinkSync(join(outside, 'a'), join(bench.tree, 'a'));
    }
    expect(found).toEqual(['', 'a', 'late', 'late/link', 'top']);
    const { packs } = stored;
    const difference = await compareTree({
      root: bench.tree,
      index: readIndexFileLines(bench.index),
      packs,
      overwrite: true,
    });
    // The symlink itself is listed, and is not a directory.
    expect(difference).toMatchObject({ present: { entries: 4, files: 3 }, added: 2 });
  });

  test('a root behind a symlink that leads out of its volume is refused, one within is followed', async () => {
    const elsewhere = mkdtempSync(join(tmpdir(), 'lifeboat-elsewhere-'));
    try {
      mkdirSync(join(elsewhere, 'in'));
      // Needs two mounts: the volume is in memory here.
      expect(lstatSync(elsewhere).dev).not.toBe(lstatSync(volume).dev);
      symlinkSync(elsewhere, join(volume, 'out'));
      for (const path of ['out', 'out/in']) {
        expect(() => Directory.open(join(volume, path))).toThrow(
          expect.objectContaining({ code: 'TREE_TARGET_REFUSED' }),
        );
      }
      symlinkSync(outside, join(volume, 'within'));
      const opened = Directory.open(join(volume, 'within'));
      expect(opened.realPath()).toBe(outside);
      opened.close();
      expect(() => Directory.open(join(volume, 'none'))).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    } finally {
      rmSync(elsewhere, { recursive: true });
    }
  });
});

describe('directories and times', () => {
  test('few directories are open at a time, however large and deep the tree is; those in use stay open', async () => {
    const names = Array.from({ length: 40 }, (_, i) => `d${i}`);
    for (const name of names) mkdirSync(join(volume, name, 'x'), { recursive: true });
    const deep = Array.from({ length: 60 }, () => 'deep').join('/');
    mkdirSync(join(volume, deep), { recursive: true });
    const root = Directory.open(volume);
    const open = new OpenDirectories(root, 4);
    const count = () => readdirSync('/proc/self/fd').length;
    const begin = count();
    let free = () => {};
    const held = open.use('d0/x', async (directory) => {
      await new Promise<void>((resolve) => {
        free = resolve;
      });
      return directory.realPath();
    });
    for (const name of [...names, ...names])
      expect(open.use(`${name}/x`, (at) => at.realPath())).toBe(`${volume}/${name}/x`);
    expect(open.use(deep, (at) => at.realPath())).toBe(`${volume}/${deep}`);
    expect(open.use('d1/none/x', () => 1)).toBeUndefined();
    expect(count() - begin).toBeLessThanOrEqual(5);
    free();
    expect(await held).toBe(`${volume}/d0/x`);
    open.close();
    expect(count()).toBe(begin);
    root.close();
  });

  test.each(['perl', 'no-such-program'])('times are not set through a symlink (%s)', async (program) => {
    mkdirSync(join(volume, 'd\n'));
    writeFileSync(join(volume, 'd\n/\xe9\n'), '');
    symlinkSync(join(outside, 'a'), join(volume, 'a'));
    const root = Directory.open(volume);
    const times = await createTimeSetter(root, program);
    const late = async () => {
      await times.set('d\n/\xc3\xa9\n', 2_000_000_000n);
      await times.set('d\n', 3_000_000_000n);
      await times.set('', 4_000_000_000n);
      await times.set('a', 5_000_000_000n);
      await times.set('a/1', 6_000_000_000n);
      await times.finish();
    };
    await expect(late()).rejects.toEqual(new PathChanged('a/1'));
    const seconds = ['d\n/\xe9\n', 'd\n', '', 'a'].map((path) => lstatSync(join(volume, path)).mtimeMs / 1000);
    expect(seconds).toEqual([2, 3, 4, 5]);
    root.close();
  });
});

test('the built tree is only in its area', async () => {
  const stored = await storeInPacks();
  expect(await build(stored, () => {})).toBe('built');
  expect(existsSync(join(area, 'tree/a/b/2'))).toBe(true);
  await agent.undo();
  expect(readdirSync(volume)).toEqual([]);
});
