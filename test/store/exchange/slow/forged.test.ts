import { createHash } from 'node:crypto';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Destination } from '../../../../src/destinations/destination.ts';
import type { BuildOptions } from '../../../../src/store/exchange/build-tree.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { type Bench, createBench } from '../../helpers.ts';
import { AT, createVolumeBench, ID, SECOND, type VolumeBench } from '../volume-bench.ts';

/**
 * A program without root's rights owns the root of the volume (www-data, 33). It can rename and make everything at the
 * top, and tries to make Lifeboat, which is root, change what only root may change.
 */

const OTHER = '20261120T030000Z-00000f';
const BEFORE = `.lifeboat-before-${ID}`;
const RESTORING = `.lifeboat-restoring-${ID}`;

let bench: Bench;
let volume: string;
let agent: VolumeBench;
const inVolume = (...parts: string[]) => join(volume, ...parts);

beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  agent = createVolumeBench(bench, volume);
  for (const root of [bench.tree, volume]) {
    mkdirSync(join(root, 'd'), { recursive: true });
    writeFileSync(join(root, 'd/f'), `f of ${root}`);
    writeFileSync(join(root, 'top'), `top of ${root}`);
  }
  mkdirSync(inVolume('secret'), { mode: 0o700 });
  writeFileSync(inVolume('secret/k'), 'of root', { mode: 0o600 });
  for (const path of ['', 'd', 'd/f', 'top']) chownSync(inVolume(path), 33, 33);
});
afterEach(() => {
  expectUntouched();
  bench.remove();
});

/** Wherever it is by now, the directory of root keeps its owner, mode and content. */
function expectUntouched(): void {
  const at = [
    'secret',
    'd',
    'live',
    'd/secret',
    BEFORE,
    `${BEFORE}/tree/secret`,
    `${BEFORE}/tree/d`,
    'moved/tree/secret',
  ]
    .map((path) => inVolume(path))
    .find((path) => existsSync(join(path, 'k')) && readFileSync(join(path, 'k'), 'utf8') === 'of root');
  const { uid, gid, mode } = lstatSync(at as string);
  expect({ uid, gid, mode: mode & 0o7777 }).toEqual({ uid: 0, gid: 0, mode: 0o700 });
}

const META = { mode: 0o777, uid: 33, gid: 33, mtime: '1700000000000000000' };
const HEADER = { format: 1, id: ID, restore: ID, holds: 'before', at: AT, whole: true };
const CHOWN = { type: 'directory', path: { text: 'secret' }, before: META, after: META };
const MOVE = { type: 'move', path: { text: 'secret/k' }, out: true, in: false };

/** Makes an area as the program, with a list that gives it the directory and the file of root. */
function forge(name = BEFORE, list = 'moves.ndjson', header: object = {}): void {
  mkdirSync(inVolume(name, 'tree/secret'), { recursive: true });
  writeFileSync(inVolume(name, 'tree/secret/k'), 'forged');
  const first = { ...HEADER, incoming: { text: `${name}/tree` }, ...header };
  writeFileSync(inVolume(name, list), [first, CHOWN, MOVE].map((line) => `${JSON.stringify(line)}\n`).join(''));
  for (const path of ['', 'tree', 'tree/secret', 'tree/secret/k', list]) chownSync(inVolume(name, path), 33, 33);
}

async function build(disturb: () => void = () => undefined, options: Partial<BuildOptions> = {}) {
  const stored = await bench.store();
  const { destination: from } = bench;
  const destination: Destination = {
    name: from.name,
    put: (...args) => from.put(...args),
    list: (...args) => from.list(...args),
    delete: (...args) => from.delete(...args),
    get: async (...args) => {
      disturb();
      return from.get(...args);
    },
  };
  return agent.build(stored, { destination, ...options });
}

const undo = () => agent.undo();
const areas = () => agent.areas();
const live = () => readFileSync(inVolume('top'), 'utf8');

describe('a name of an area', () => {
  test.each([
    ['a directory', BEFORE, () => mkdirSync(inVolume(BEFORE))],
    ['a file', BEFORE, () => writeFileSync(inVolume(BEFORE), 'x')],
    ['a symlink', BEFORE, () => symlinkSync('/etc', inVolume(BEFORE))],
    ['a list', BEFORE, () => forge()],
    ['a directory', RESTORING, () => mkdirSync(inVolume(RESTORING))],
    ['a file', RESTORING, () => writeFileSync(inVolume(RESTORING), 'x')],
    ['a dangling symlink', RESTORING, () => symlinkSync('none', inVolume(RESTORING))],
  ])('that exists (%s, %s) is refused before anything is built, and stays', async (_what, name, make) => {
    make();
    lchownSync(inVolume(name), 33, 33);
    await expect(build()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(areas()).toEqual([name]);
    expect(await undo()).toBe('old');
    expect(areas()).toEqual([name]);
  });

  test.each([
    ['the area for the replaced data', BEFORE, forge],
    ['that area, with an empty directory', BEFORE, (name: string) => mkdirSync(inVolume(name))],
    ['that area, with a file', BEFORE, (name: string) => writeFileSync(inVolume(name), 'x')],
    ['the area of the new data', RESTORING, forge],
    ['that area, with a symlink', RESTORING, (name: string) => symlinkSync('/etc', inVolume(name))],
    ['that area, with nothing', RESTORING, () => undefined],
  ])(
    'a program that replaces %s during the build gets nothing, and all that was built is removed',
    async (_w, name, make) => {
      const replace = () => {
        if (existsSync(inVolume('moved'))) return;
        renameSync(inVolume(name), inVolume('moved'));
        make(name);
      };
      const built = build(replace);
      await expect(built).rejects.toMatchObject({
        code: 'TREE_TARGET_REFUSED',
        message: expect.stringContaining(`${name} is now moved`),
      });
      expect(existsSync(inVolume('moved'))).toBe(false);
      expect(areas()).toEqual(existsSync(inVolume(name)) || name === BEFORE || _w.includes('symlink') ? [name] : []);
      expect(live()).toContain('volume');
    },
  );

  test('an area that is moved into another directory during the build is emptied there', async () => {
    const move = () => renameSync(inVolume(RESTORING), inVolume('d/moved'));
    await expect(build(move)).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(readdirSync(inVolume('d/moved'))).toEqual([]);
    expect(areas()).toEqual([]);
  });

  test('a program that replaces an area before the swap is refused; recovery removes what Lifeboat made', async () => {
    for (const name of [BEFORE, RESTORING]) {
      await build();
      renameSync(inVolume(name), inVolume('moved'));
      forge(name);
      await expect(agent.swap()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
      expect(live()).toContain('volume');
      expect(await undo()).toBe('old');
      expect(readdirSync(volume).sort()).toEqual([name, 'd', 'secret', 'top']);
      rmSync(inVolume(name), { recursive: true });
    }
  });

  test('the probe for movable names never moves live data, whatever replaces the area', async () => {
    for (const make of [() => mkdirSync(inVolume(RESTORING)), () => writeFileSync(inVolume(RESTORING), 'x')]) {
      const replace = () => {
        renameSync(inVolume(RESTORING), inVolume('moved'));
        make();
      };
      const select = selectByGlobs(['*']);
      await expect(build(replace, { select, overwrite: true })).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
      expect(live()).toContain('volume');
      expect(readFileSync(inVolume('d/f'), 'utf8')).toContain('volume');
      rmSync(inVolume(RESTORING), { recursive: true });
    }
  });
});

describe('a forged list', () => {
  test.each(['moves.ndjson', 'list.ndjson'])(
    '%s is not carried out by recovery, with and without inodes',
    async (list) => {
      forge(BEFORE, list);
      expect(await undo()).toBe('old');
      await build().catch(() => undefined);
      expect(await undo()).toBe('old');
      expect(areas()).toEqual([BEFORE]);
    },
  );

  test('a directory of root under the name of an area is not emptied', async () => {
    await build();
    renameSync(inVolume(BEFORE), inVolume('moved'));
    renameSync(inVolume('secret'), inVolume(BEFORE));
    await expect(agent.swap()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(await undo()).toBe('old');
    expect(existsSync(inVolume(BEFORE, 'k'))).toBe(true);
  });

  test('the area of another restore, renamed, is not taken for this one', async () => {
    await build();
    await agent.swap();
    renameSync(inVolume(BEFORE), inVolume(`.lifeboat-before-${OTHER}`));
    expect(await agent.undo(OTHER)).toBe('old');
    expect(existsSync(inVolume(`.lifeboat-before-${OTHER}`, 'tree/top'))).toBe(true);
    expect(await agent.list()).toMatchObject([{ id: ID, refused: expect.stringContaining(OTHER) }]);
    renameSync(inVolume(`.lifeboat-before-${OTHER}`), inVolume(BEFORE));
    await agent.back(SECOND);
    expect(live()).toContain('volume');
  });

  test.each([
    ['a hard link', (list: string) => linkSync(list, inVolume('link'))],
    ['of another owner', (list: string) => chownSync(list, 33, 33)],
    ['writable for others', (list: string) => chmodSync(list, 0o666)],
    ['a header of another shape', (list: string) => writeFileSync(list, '{"id":1,"incoming":"x"}\n')],
    [
      'a path of another shape',
      (list: string) => writeFileSync(list, `${JSON.stringify({ ...HEADER, incoming: 'x' })}\n`),
    ],
    ['null', (list: string) => writeFileSync(list, 'null\n')],
    ['no JSON', (list: string) => writeFileSync(list, 'junk\n')],
    ['nothing', (list: string) => writeFileSync(list, '')],
    ['a step of another shape', (list: string) => appendFileSync(list, '{"type":"move","path":"x"}\n')],
    ['an unknown step', (list: string) => appendFileSync(list, '{"type":"own","path":{"text":"secret"}}\n')],
    [
      'a path that leaves',
      (list: string) => appendFileSync(list, `${JSON.stringify({ ...MOVE, path: { text: '../x' } })}\n`),
    ],
  ])('a list that is not what Lifeboat wrote (%s) is damaged', async (_what, change) => {
    await build();
    await agent.swap();
    const list = inVolume(BEFORE, 'list.ndjson');
    const former = readFileSync(list);
    change(list);
    // Even if the journal named this list.
    const text = readFileSync(list);
    delete agent.journal[ID]?.ended;
    agent.journal[ID] = {
      ...agent.journal[ID],
      list: createHash('sha256').update(text).digest('hex'),
      size: text.length,
    };
    renameSync(list, inVolume(BEFORE, 'moves.ndjson'));
    // A list that only others can have changed the owner of is copied first.
    if (text.equals(former)) expect(await undo()).toBe('old');
    else await expect(undo()).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
    rmSync(inVolume('link'), { force: true });
  });
});

describe('during the exchange', () => {
  /** Runs `disturb` before one of the steps, for each step. */
  async function atEachStep(disturb: () => void, whole: boolean): Promise<string[]> {
    const outcomes: string[] = [];
    for (let step = 0; step < 5; step++) {
      bench.remove();
      bench = createBench();
      rmSync(volume, { recursive: true, force: true });
      volume = join(bench.spool, '..', 'volume');
      agent = createVolumeBench(bench, volume);
      for (const root of [bench.tree, volume]) {
        mkdirSync(join(root, 'd'), { recursive: true });
        writeFileSync(join(root, 'd/f'), `f of ${root}`);
        writeFileSync(join(root, 'top'), `top of ${root}`);
      }
      mkdirSync(inVolume('secret'), { mode: 0o700 });
      writeFileSync(inVolume('secret/k'), 'of root', { mode: 0o600 });
      for (const path of ['', 'd', 'd/f', 'top']) chownSync(inVolume(path), 33, 33);
      await build(undefined, whole ? {} : { select: selectByGlobs(['*']), overwrite: true });
      let left = step;
      const heard = () => {
        if (left-- === 0) disturb();
      };
      outcomes.push(
        await agent.swap({ heard, whole }).then(
          () => 'new',
          (error) => error.code,
        ),
      );
      const now = await undo();
      expect(live()).toContain(now === 'new' ? 'tree' : 'volume');
      expectUntouched();
    }
    return outcomes;
  }

  test('an area that is moved away and forged gets nothing; the replaced data is in the area that Lifeboat made', async () => {
    const outcomes = await atEachStep(() => {
      renameSync(inVolume(BEFORE), inVolume('moved'));
      forge();
    }, true);
    expect(outcomes).toContain('new');
  });

  test('a directory of root in the place of a merged one keeps its owner', async () => {
    await atEachStep(() => {
      if (!existsSync(inVolume('secret')) || !existsSync(inVolume('d'))) return;
      renameSync(inVolume('d'), inVolume('d.away'));
      renameSync(inVolume('secret'), inVolume('d'));
    }, false);
  });
});

test('an interrupted deletion is not rolled back, and can be completed', async () => {
  await build();
  await agent.swap();
  let left = 1;
  const killed = () => {
    if (left-- === 0) throw new Error('killed');
  };
  await expect(agent.forget(ID, killed)).rejects.toThrow('killed');
  expect(agent.records[ID]).toMatchObject({ forgotten: true });
  await expect(agent.back(SECOND)).rejects.toMatchObject({
    code: 'NOTHING_TO_ROLL_BACK',
    hint: expect.stringContaining(`lifeboat rollback ${ID} --forget`),
  });
  await agent.forget();
  expect(areas()).toEqual([]);
  mkdirSync(inVolume('secret'), { recursive: true, mode: 0o700 });
  writeFileSync(inVolume('secret/k'), 'of root');
});
