import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Destination } from '../../../../src/destinations/destination.ts';
import { compareTree } from '../../../../src/store/content/compare-tree.ts';
import type { StoredTree } from '../../../../src/store/content/stored-tree.ts';
import { type BuildOptions, undoIncomplete } from '../../../../src/store/exchange/build-tree.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import type { IndexEntry } from '../../../../src/store/filesystem/index-file.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { walk } from '../../../../src/store/filesystem/walk.ts';
import { at, type Bench, createBench, describeTree } from '../../helpers.ts';
import { Killed, killAt, killed } from '../killed.ts';
import { AT, createVolumeBench, ID, identityAt, SECOND, THIRD, type VolumeBench } from '../volume-bench.ts';

// An exchange that is killed does not take itself back.
vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) =>
  (await import('../killed.ts')).withoutRevert(original),
);

let bench: Bench;
let volume: string;
let agent: VolumeBench;
beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  mkdirSync(volume);
  agent = createVolumeBench(bench, volume);
});
afterEach(() => bench.remove());

const put = (root: string, path: string, content: string, mtime = 1000) => {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), content);
  utimesSync(join(root, path), mtime, mtime);
};
const select = (...globs: string[]) => selectByGlobs(globs);

const build = (stored: StoredTree, options: Partial<BuildOptions> = {}) => agent.build(stored, { ...options });

/** Restores the whole volume, or the selected part of it. */
async function restore(stored: StoredTree, options: Partial<BuildOptions> = {}) {
  const built = await build(stored, options);
  return { ...built, ...(await agent.swap({ whole: !options.select })) };
}

/** Returns everything in a volume except areas. */
function data(root = volume) {
  return new Map([...describeTree(root)].filter(([path]) => !path.startsWith('.lifeboat-')));
}
const areas = (root = volume) => readdirSync(root).filter((name) => name.startsWith('.lifeboat-'));

type Item = { path: string; kind: 'file' | 'directory' | 'symlink' | 'link'; value: number };
const part = fc.constantFrom('a', 'b', 'c', 'd\xff', '-e');
const item: fc.Arbitrary<Item> = fc.record({
  path: fc.array(part, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/')),
  kind: fc.constantFrom('file', 'file', 'directory', 'symlink', 'link'),
  value: fc.integer({ min: 0, max: 5 }),
});
const tree = fc.array(item, { maxLength: 12 });

/** Makes the directories above a path. Returns false if something else is in the way. Follows no symlink. */
function makeAbove(root: string, path: string): boolean {
  for (let end = path.indexOf('/'); end >= 0; end = path.indexOf('/', end + 1)) {
    const directory = at(root, path.slice(0, end));
    const found = lstatSync(directory, { throwIfNoEntry: false });
    if (found && !found.isDirectory()) return false;
    if (!found) mkdirSync(directory);
  }
  return true;
}

/** Makes a list of items, and skips those that another one blocks. */
function make(root: string, items: readonly Item[], root5: number): void {
  const directories = [''];
  let file: string | undefined;
  for (const { path, kind, value } of items) {
    const full = at(root, path);
    try {
      if (!makeAbove(root, path)) continue;
      if (kind === 'directory') {
        mkdirSync(full);
        directories.push(path);
      } else if (kind === 'symlink') symlinkSync(['a', '..', '/etc', 'a/b', 'none', '/'][value] as string, full);
      else if (kind === 'link' && file !== undefined) linkSync(at(root, file), full);
      else {
        writeFileSync(full, 'x'.repeat(value), { flag: 'wx', mode: value % 2 ? 0o640 : 0o600 });
        file = path;
      }
      lchownSync(full, value, value % 3);
      lutimesSync(full, 1, 1_600_000_000 + value);
    } catch (error) {
      if (!['EEXIST', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    }
  }
  for (const path of directories.reverse()) utimesSync(at(root, path), 1, 1_500_000_000 + root5);
  chmodSync(root, root5 % 2 ? 0o755 : 0o2770);
}

function empty(root: string): void {
  for (const name of readdirSync(root, { encoding: 'latin1' }))
    rmSync(at(root, name) as unknown as string, { recursive: true });
}

describe('a whole volume', () => {
  test('any tree restored over any other equals the snapshot; rolled back, it is exactly the old one; forgotten, nothing is left', async () => {
    await fc.assert(
      fc.asyncProperty(tree, tree, fc.integer({ min: 0, max: 5 }), async (snapshot, present, value) => {
        for (const root of [bench.tree, volume]) empty(root);
        make(bench.tree, snapshot, value);
        make(volume, present, value + 1);
        const wanted = data(bench.tree);
        const former = data();
        const stored = await bench.store();
        const { kept } = await restore(stored);
        expect(data()).toEqual(wanted);
        expect(kept?.area).toBe(former.size > 1 ? ID : undefined);
        if (!kept) return;
        await agent.back(SECOND);
        expect(data()).toEqual(former);
        if (wanted.size === 1) return;
        await agent.back(THIRD);
        expect(data()).toEqual(wanted);
        expect(areas()).toEqual([`.lifeboat-before-${THIRD}`]);
        await agent.forget();
        expect(describeTree(volume)).toEqual(wanted);
      }),
      { numRuns: 8 },
    );
  });

  test('what services change between the build and the swap is put aside as it is at the swap', async () => {
    put(bench.tree, 'stored', 'stored');
    put(bench.tree, 'both', 'stored');
    for (const name of ['both', 'removed', 'deep/old']) put(volume, name, 'old');
    const stored = await bench.store();
    const wanted = data(bench.tree);
    await build(stored);
    for (const name of ['both', 'added', 'deep/added', 'stored', 'new/one']) put(volume, name, 'written meanwhile');
    rmSync(join(volume, 'removed'));
    lchownSync(volume, 7, 8);
    chmodSync(volume, 0o711);
    utimesSync(volume, 2000, 2000);
    const atSwap = data();
    await agent.swap();
    expect(data()).toEqual(wanted);
    await agent.back(SECOND);
    expect(data()).toEqual(atSwap);
  });

  test('only differing files are fetched; equal files are copied, and not shared with the replaced data', async () => {
    for (const root of [bench.tree, volume]) put(root, 'same', 'equal content');
    put(bench.tree, 'other', 'from the snapshot');
    const stored = await bench.store();
    put(bench.tree, 'more', 'in a pack of its own');
    put(volume, 'more', 'in a pack of its own');
    put(volume, 'touched', 'x');
    const reads: string[] = [];
    const second = await bench.store({ previous: { indexPath: bench.index, packs: stored.packs } });
    const counted: Destination = {
      ...methods(bench.destination),
      get: (key, options) => {
        reads.push(key);
        return bench.destination.get(key, options);
      },
    };
    const firstPack = stored.packs[0]!.key;
    await restore(second, { destination: counted });
    expect(new Set(reads)).toEqual(new Set([firstPack]));
    // An application that writes in place changes its own file, not the replaced data.
    writeFileSync(join(volume, 'same'), 'EQUAL', { flag: 'r+' });
    await agent.back(SECOND);
    expect(readFileSync(join(volume, 'same'), 'utf8')).toBe('equal content');
  });

  test('a file with the same size and time but other content does not count as equal', async () => {
    put(bench.tree, 'f', 'right');
    put(volume, 'f', 'wrong');
    await restore(await bench.store());
    expect(readFileSync(join(volume, 'f'), 'utf8')).toBe('right');
  });

  test('after a kill at any step, the next start makes the volume wholly old or wholly new, even if it is killed too', async () => {
    for (const name of ['a', 'b/c', 'b/d', 'e']) put(bench.tree, name, `new ${name}`);
    for (const name of ['b/c', 'b/x', 'f', 'e/g']) put(volume, name, `old ${name}`);
    utimesSync(volume, 5, 5);
    const former = data();
    const stored = await bench.store();
    const clean = join(volume, '..', 'clean');
    execFileSync('cp', ['-a', volume, clean]);
    const outcomes: string[] = [];
    let fresh = former;
    /** Kills an exchange at each of its steps, and recovery once. */
    const atEachStep = async (id: string, begin: () => Promise<void>, run: (heard: () => void) => Promise<unknown>) => {
      for (let step = 0, again = true; again; step++) {
        rmSync(volume, { recursive: true });
        execFileSync('cp', ['-a', clean, volume]);
        agent = createVolumeBench(bench, volume);
        await begin();
        again = await killed(run(killAt(step)));
        const [old, present] = id === ID ? [former, fresh] : [fresh, former];
        if (!again) return;
        await killed(agent.undo(id, killAt(step % 3)));
        const now = await agent.undo(id);
        expect(data()).toEqual(now === 'old' ? old : present);
        if (now === 'old') expect(areas().filter((name) => name.endsWith(id))).toEqual([]);
        expect(await agent.undo(id)).toBe(now);
        expect(data()).toEqual(now === 'old' ? old : present);
        outcomes.push(now);
      }
    };
    await restore(stored);
    fresh = data();
    await atEachStep(
      ID,
      async () => void (await build(stored)),
      (heard) => agent.swap({ heard }),
    );
    expect(new Set(outcomes)).toEqual(new Set(['old', 'new']));
    expect(outcomes.length).toBeGreaterThan(8);
    await atEachStep(
      SECOND,
      async () => void (await restore(stored)),
      (heard) => agent.back(SECOND, ID, { heard }),
    );
  });

  test('an exchange that fails at any step leaves the old data', async () => {
    put(bench.tree, 'a', 'new');
    put(bench.tree, 'b', 'new');
    put(volume, 'b', 'old');
    const former = data();
    const stored = await bench.store();
    for (let step = 0; step < 5; step++) {
      await build(stored);
      let left = step;
      const heard = () => {
        if (left-- === 0) throw new Error('enough');
      };
      await expect(agent.swap({ heard })).rejects.toThrow('enough');
      await agent.undo();
      expect(describeTree(volume)).toEqual(former);
    }
  });

  test('a volume that was empty when it was checked, and no longer is, is not replaced', async () => {
    put(bench.tree, 'a', 'from the snapshot');
    const stored = await bench.store();
    await build(stored);
    put(volume, 'upload', 'came meanwhile');
    await expect(agent.swap({ empty: true })).rejects.toMatchObject({ code: 'TREE_TARGET_NOT_EMPTY' });
    expect(await agent.undo()).toBe('old');
    expect(readdirSync(volume)).toEqual(['upload']);
    rmSync(join(volume, 'upload'));
    await build(stored);
    await agent.swap({ empty: true });
    expect(readdirSync(volume)).toEqual(['a']);
  });

  test('a build that fails or is stopped leaves nothing', async () => {
    put(bench.tree, 'a', 'content');
    put(volume, 'b', 'old');
    const former = describeTree(volume);
    const stored = await bench.store();
    await expect(build(stored, { packs: [] })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    await expect(build(stored, { signal: AbortSignal.abort(new Error('stop')) })).rejects.toThrow('stop');
    await expect(build(stored, { needed: Number.MAX_SAFE_INTEGER })).rejects.toMatchObject({
      code: 'TREE_TARGET_FULL',
    });
    expect(describeTree(volume)).toEqual(former);
  });

  test('files created in the way are put aside when an exchange is taken back', async () => {
    put(bench.tree, 'a', 'new');
    put(volume, 'b', 'old');
    const stored = await bench.store();
    await build(stored);
    const heard = () => {
      if (!existsSync(join(volume, 'b'))) throw new Killed();
    };
    expect(await killed(agent.swap({ heard }))).toBe(true);
    put(volume, 'b', 'made by an application meanwhile');
    expect(await agent.undo()).toBe('old');
    expect(readFileSync(join(volume, 'b'), 'utf8')).toBe('old');
    const late = `lifeboat-late-${ID}`;
    expect(readFileSync(join(volume, late, 'b'), 'utf8')).toMatch(/meanwhile/);
    // A backup includes them.
    await bench.store({ root: volume });
    expect((await bench.entries()).map(({ path }) => path)).toContain(`${late}/b`);
    expect(areas()).toEqual([]);
  });

  test.each(['cannot be recorded', 'is recorded late, and the built tree is gone'])(
    'old data stays in place if the end of the reversal %s',
    async (how) => {
      put(bench.tree, 'f', 'new');
      put(volume, 'f', 'old');
      await build(await bench.store());
      const heard = () => {
        if (
          agent.journal[ID]?.list &&
          existsSync(join(volume, 'f')) &&
          readFileSync(join(volume, 'f'), 'utf8') === 'new'
        )
          throw new Killed();
      };
      expect(await killed(agent.swap({ heard }))).toBe(true);
      // The spool is full, for example.
      const record = agent.journal[ID] ?? {};
      expect(await undoIncomplete(volume, ID, { record, ended: () => false })).toMatchObject({ now: 'old' });
      if (how !== 'cannot be recorded') rmSync(join(volume, `.lifeboat-restoring-${ID}`), { recursive: true });
      expect(await agent.undo()).toBe('old');
      expect(readFileSync(join(volume, 'f'), 'utf8')).toBe('old');
      expect(readdirSync(volume)).toEqual(['f']);
    },
  );

  test('data whose directory is gone when an exchange is taken back is not deleted', async () => {
    put(bench.tree, 'd/f', 'new');
    put(volume, 'd/f', 'old');
    await build(await bench.store(), { select: select('f'), overwrite: true });
    const heard = () => {
      if (agent.journal[ID]?.list && readFileSync(join(volume, 'd/f'), 'utf8') === 'new') throw new Killed();
    };
    expect(await killed(agent.swap({ heard, whole: false }))).toBe(true);
    rmSync(join(volume, 'd'), { recursive: true });
    expect(await agent.undo()).toBe('old');
    expect(readFileSync(join(volume, `lifeboat-rest-${ID}/d/f`), 'utf8')).toBe('old');
  });
});

describe('a part of a volume', () => {
  test('any selection of any tree can be restored over any other, and rolled back exactly', async () => {
    await fc.assert(
      fc.asyncProperty(tree, tree, part, async (snapshot, present, name) => {
        for (const root of [bench.tree, volume]) empty(root);
        make(bench.tree, snapshot, 0);
        make(volume, present, 1);
        const former = data();
        const wanted = data(bench.tree);
        const glob = select(Buffer.from(name, 'latin1').toString('utf8') === name ? name : '*');
        const stored = await bench.store();
        const { kept } = await restore(stored, { select: glob, overwrite: true });
        for (const [path, facts] of wanted) {
          if (path === '' || 'target' in facts || !('size' in facts) || !glob(path, false)) continue;
          const { link: _, ...rest } = facts;
          expect(data().get(path)).toMatchObject(rest);
        }
        if (kept) await agent.back(SECOND);
        expect(data()).toEqual(former);
      }),
      { numRuns: 8 },
    );
  });

  test('equal and newer files stay, older ones are replaced, and directories are kept', async () => {
    for (const name of ['d/equal', 'd/newer', 'd/older', 'd/gone', 'other']) put(bench.tree, name, `then ${name}`);
    put(volume, 'd/equal', 'then d/equal');
    put(volume, 'd/newer', 'now', 2000);
    put(volume, 'd/older', 'now', 500);
    put(volume, 'd/extra', 'now');
    put(volume, 'other', 'now', 500);
    utimesSync(join(volume, 'd'), 77, 77);
    const former = data();
    const stored = await bench.store();
    const read = (name: string) => readFileSync(join(volume, name), 'utf8');
    expect(await restore(stored, { select: select('d') })).toMatchObject({ files: 2, equal: 1, newer: 1 });
    expect(['d/equal', 'd/newer', 'd/older', 'd/gone', 'd/extra', 'other'].map(read)).toEqual([
      ...['then d/equal', 'now', 'then d/older', 'then d/gone'],
      ...['now', 'now'],
    ]);
    expect(data().get('d')).toEqual(former.get('d'));
    expect(await agent.list()).toEqual([{ kind: 'before', id: ID, files: 1, bytes: 3 }]);
    await agent.back(SECOND);
    expect(data()).toEqual(former);
    await agent.back(THIRD);
    expect(read('d/older')).toBe('then d/older');
    await agent.forget();
    expect(await restore(stored, { select: select('d'), overwrite: true })).toMatchObject({ files: 1, newer: 0 });
    expect(read('d/newer')).toBe('then d/newer');
  });

  test('a rollback restores directories that have been removed since', async () => {
    put(bench.tree, 'x/y/f', 'then');
    put(volume, 'x/y/f', 'now', 500);
    chmodSync(join(volume, 'x/y'), 0o751);
    const former = data();
    await restore(await bench.store(), { select: select('f') });
    rmSync(join(volume, 'x/y'), { recursive: true });
    await agent.back(SECOND);
    expect(data().get('x/y')).toEqual(former.get('x/y'));
    expect(data().get('x/y/f')).toEqual(former.get('x/y/f'));
  });

  test('a rollback through a directory that has become a symlink is refused, and nothing moves', async () => {
    put(bench.tree, 'x/f', 'then');
    put(volume, 'x/f', 'now', 500);
    await restore(await bench.store(), { select: select('f') });
    const outside = join(volume, '..', 'outside');
    mkdirSync(outside);
    rmSync(join(volume, 'x'), { recursive: true });
    symlinkSync(outside, join(volume, 'x'));
    await expect(agent.back(SECOND)).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
    });
    expect(readdirSync(outside)).toEqual([]);
    unlinkSync(join(volume, 'x'));
    await agent.back(SECOND);
    expect(readFileSync(join(volume, 'x/f'), 'utf8')).toBe('now');
  });
});

describe('never outside', () => {
  test('a symlink in place of a directory of the snapshot is moved, not followed', async () => {
    const outside = join(volume, '..', 'outside');
    put(outside, 'f', 'not mine');
    put(bench.tree, 'd/f', 'then');
    symlinkSync(outside, join(volume, 'd'));
    const stored = await bench.store();
    for (const options of [{ select: select('f'), overwrite: true }, {}]) {
      await restore(stored, options);
      expect(readFileSync(join(outside, 'f'), 'utf8')).toBe('not mine');
      expect(readFileSync(join(volume, 'd/f'), 'utf8')).toBe('then');
      await agent.back(SECOND);
      await agent.forget();
      expect(readFileSync(join(outside, 'f'), 'utf8')).toBe('not mine');
    }
  });

  test('an index that lists an area is refused, and so is a list that leaves its area', async () => {
    put(volume, 'a', 'old');
    const former = describeTree(volume);
    const directory = (path: string): IndexEntry => ({
      path,
      type: 'directory',
      mode: 0o755,
      uid: 0,
      gid: 0,
      mtime: 0n,
    });
    const stored = { packs: [] } as unknown as StoredTree;
    const index = () => Readable.from([directory(''), directory(`.lifeboat-before-${SECOND}`)]);
    await expect(build(stored, { index })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    expect(describeTree(volume)).toEqual(former);
    const area = join(volume, `.lifeboat-before-${ID}`);
    mkdirSync(join(area, 'tree'), { recursive: true });
    chmodSync(area, 0o700);
    const before = identityAt(area);
    for (const [incoming, path] of [
      ['..', 'a'],
      ['a', 'a'],
      [`.lifeboat-before-${ID}/tree`, '../x'],
      [`.lifeboat-before-${ID}/../..`, 'a'],
    ]) {
      const header = {
        format: 1,
        id: ID,
        restore: ID,
        holds: 'before',
        at: AT,
        incoming: { text: incoming },
        source: { identity: before, base: '' },
        whole: false,
      };
      const move = { type: 'move', path: { text: path }, out: true, in: true };
      const list = `${JSON.stringify(header)}\n${JSON.stringify(move)}\n`;
      writeFileSync(join(area, 'moves.ndjson'), list);
      const sum = createHash('sha256').update(list).digest('hex');
      agent.journal[ID] = { before, list: sum, size: list.length, root: identityAt(volume) };
      await expect(agent.undo()).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
      expect(readFileSync(join(volume, 'a'), 'utf8')).toBe('old');
    }
  });

  test('walks and comparisons leave out areas', async () => {
    put(bench.tree, 'same', 'x');
    put(bench.tree, 'added', 'xx');
    for (const [name, content] of [
      ['same', 'x'],
      ['extra', 'y'],
    ] as const)
      put(volume, name, content);
    put(volume, `.lifeboat-before-${ID}/tree/z`, 'z');
    put(volume, `.lifeboat-restoring-${ID}/tree/z`, 'z');
    put(volume, '.lifeboat-mine', 'mine');
    const paths: string[] = [];
    for await (const { path } of walk(volume)) paths.push(path);
    expect(paths).toEqual(['', '.lifeboat-mine', 'extra', 'same']);
    const stored = await bench.store();
    const options = { root: volume, packs: stored.packs, overwrite: false };
    expect(await compareTree({ ...options, index: readIndexFileLines(bench.index) })).toMatchObject({
      present: { entries: 3, files: 3, bytes: 6 },
      ...{ added: 1, replaced: 0, extra: 2, equal: 1, newer: 0 },
      fetch: stored.packs[0]!.size,
    });
    put(volume, 'same', 'newer', 3000);
    const part = { ...options, index: readIndexFileLines(bench.index), select: select('same') };
    expect(await compareTree(part)).toMatchObject({ added: 0, replaced: 0, extra: 0, equal: 0, newer: 1, fetch: 0 });
  });
});

/** Wraps the methods of a destination in an object, because spreading a class instance does not copy them. */
function methods(destination: Destination): Destination {
  return {
    name: destination.name,
    put: (...args) => destination.put(...args),
    get: (...args) => destination.get(...args),
    list: (...args) => destination.list(...args),
    delete: (...args) => destination.delete(...args),
  };
}
