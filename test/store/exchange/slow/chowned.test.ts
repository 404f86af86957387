import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chownSync,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { buildTree, undoIncomplete } from '../../../../src/store/exchange/build-tree.ts';
import type { KnownArea } from '../../../../src/store/exchange/known-area.ts';
import { listAreas } from '../../../../src/store/exchange/list-areas.ts';
import { type AreaRecord, createOwn, isOwn } from '../../../../src/store/exchange/own-area.ts';
import { forgetAreas, rollBackArea, swapBuilt } from '../../../../src/store/exchange/volume-areas.ts';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import * as fileSystem from '../../../../src/store/filesystem/file-system.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { type Bench, createBench } from '../../helpers.ts';

/**
 * The entrypoint of an image changes the owner or mode of its whole volume at each start, areas included. The records
 * outside the volume show which areas Lifeboat made.
 */

const ID = '20261120T030000Z-00000a';
const SECOND = '20261120T030000Z-00000b';
const THIRD = '20261120T030000Z-00000c';
const AT = '2026-11-20T03:00:00.000Z';
const BEFORE = `.lifeboat-before-${ID}`;
const RESTORING = `.lifeboat-restoring-${ID}`;

let bench: Bench;
let volume: string;
let record: AreaRecord;
const inVolume = (...parts: string[]) => join(volume, ...parts);

function fill(): void {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  record = {};
  for (const root of [bench.tree, volume]) {
    mkdirSync(join(root, 'd'), { recursive: true });
    writeFileSync(join(root, 'd/f'), `f of ${root}`);
    writeFileSync(join(root, 'top'), `top of ${root}`);
  }
}
beforeEach(fill);
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

/** What entrypoints do, and what an administrator may do. */
const CHANGES: [string, () => void][] = [
  ['chown -R', () => execFileSync('chown', ['-R', '33:33', volume])],
  ['chown -Rh and chmod -R g+w', () => execFileSync('sh', ['-c', `chown -Rh 33 "$0" && chmod -R g+w "$0"`, volume])],
  ['chmod -R g+w', () => execFileSync('chmod', ['-R', 'g+w', volume])],
  ['chmod -R 777', () => execFileSync('chmod', ['-R', '777', volume])],
  ['find -type f -exec chmod', () => execFileSync('find', [volume, '-type', 'f', '-exec', 'chmod', '666', '{}', '+'])],
  ['find -type d -exec chown', () => execFileSync('find', [volume, '-type', 'd', '-exec', 'chown', '33', '{}', '+'])],
];

async function build(select?: string): Promise<void> {
  const stored = await bench.store();
  await buildTree({
    root: volume,
    id: ID,
    index: () => readIndexFileLines(bench.index),
    packs: stored.packs,
    destination: bench.destination,
    keys: {},
    spool: bench.spool,
    overwrite: true,
    needed: 0,
    made: (made) => {
      record = made;
    },
    ...(select === undefined ? {} : { select: selectByGlobs([select]) }),
  });
}

/** Journals what an exchange records before its first move. */
const begun = ({ inode, list }: KnownArea) => {
  record = { ...record, before: inode as string, list: list as string };
};
const swap = (options: { heard?: () => void; whole?: boolean } = {}) =>
  swapBuilt({ root: volume, id: ID, at: AT, whole: true, snapshot: 'snap', areas: record, begun, ...options });
const ended = (state: AreaRecord['ended']) => Object.assign(record, { ended: state });
const undo = (id = ID) => undoIncomplete(volume, id, { record, ended });
const areas = () => readdirSync(volume).filter((name) => name.startsWith('.lifeboat-'));
const live = () => (readFileSync(inVolume('top'), 'utf8').includes('volume') ? 'old' : 'new');
const list = (known?: KnownArea) => listAreas(volume, { known: known ? [known] : [] });

/** After both of two moves; after both and before the metadata; when the list is marked as done. */
const STEPS = [2, 4, 5];

describe.each(CHANGES)('after %s of the whole volume', (_what, change) => {
  test.each([
    ['everything', undefined],
    ['a part', '*'],
  ])('put-aside data of a restore of %s is listed, brought back, and deleted', async (_which, select) => {
    await build(select);
    let { kept: known } = await swap({ whole: select === undefined });
    expect(live()).toBe('new');
    change();
    expect(await list(known)).toMatchObject([{ id: ID, restore: ID, holds: 'before', files: 2, list: known?.list }]);
    await rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known, check: true });
    change();
    ({ kept: known } = await rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known }));
    expect(live()).toBe('old');
    expect(areas()).toEqual([`.lifeboat-before-${SECOND}`]);
    change();
    expect(await list(known)).toMatchObject([{ id: SECOND, restore: ID, holds: 'restored', files: 2 }]);
    ({ kept: known } = await rollBackArea({ root: volume, id: THIRD, at: AT, restore: ID, known }));
    expect(live()).toBe('new');
    change();
    await forgetAreas(volume, ID, () => {}, { known });
    expect(areas()).toEqual([]);
    expect(live()).toBe('new');
  });

  test('a restore that was killed is taken back, or complete', async () => {
    const outcomes: string[] = [];
    for (const step of STEPS) {
      bench.remove();
      fill();
      await build();
      const kill = killAt(step);
      await killed(swap({ heard: kill }));
      change();
      const now = await undo();
      outcomes.push(now);
      expect(live()).toBe(now);
      expect(areas()).toEqual(now === 'old' ? [] : [BEFORE]);
      expect(await undo()).toBe(now);
    }
    expect(new Set(outcomes)).toEqual(new Set(['old', 'new']));
  });

  test('a rollback that was killed is taken back, or complete', async () => {
    const outcomes: string[] = [];
    for (const step of STEPS) {
      bench.remove();
      fill();
      await build();
      const { kept: known } = await swap();
      change();
      record = {};
      await killed(rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known, begun, heard: killAt(step) }));
      change();
      const now = await undo(SECOND);
      outcomes.push(now);
      expect(live()).toBe(now === 'old' ? 'new' : 'old');
      expect(areas()).toEqual([`.lifeboat-before-${now === 'old' ? ID : SECOND}`]);
      if (now === 'old') await rollBackArea({ root: volume, id: THIRD, at: AT, restore: ID, known });
      expect(live()).toBe('old');
    }
    expect(new Set(outcomes)).toEqual(new Set(['old', 'new']));
  });

  test('what was built and not swapped is removed', async () => {
    const { mtimeMs } = lstatSync(volume);
    await build();
    change();
    const { mode, uid, gid } = lstatSync(volume);
    expect(await undo()).toBe('old');
    expect(areas()).toEqual([]);
    expect(lstatSync(volume)).toMatchObject({ mode, uid, gid, mtimeMs });
  });
});

/** Kills the process at a step: nothing that it would do afterwards happens. */
function killAt(step: number): () => void {
  let left = step;
  return () => {
    if (left-- === 0) throw new Killed();
  };
}
class Killed extends Error {}

/** Runs an exchange that is killed, so that nothing is taken back in the process. */
async function killed(work: Promise<unknown>): Promise<void> {
  await work.catch((error: unknown) => {
    if (!(error instanceof Killed)) throw error;
  });
}
vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) => {
  const actual = await original();
  return {
    ...actual,
    async undoFound(...args) {
      // The undo of an exchange in the same process.
      if (new Error().stack?.includes('exchange/exchange.ts')) return 'old' as const;
      return actual.undoFound(...args);
    },
  };
});

describe('a program that owns its volume and the areas in it', () => {
  async function chowned(): Promise<KnownArea> {
    await build();
    const { kept } = await swap();
    execFileSync('chown', ['-R', '33:33', volume]);
    return kept as KnownArea;
  }

  test.each([
    ['changes the list', () => appendFileSync(inVolume(BEFORE, 'list.ndjson'), '\n'), 'its list of moves has changed'],
    ['removes the list', () => rmSync(inVolume(BEFORE, 'list.ndjson')), 'its list of moves has changed'],
    ['renames the area', () => renameSync(inVolume(BEFORE), inVolume('moved')), 'it is now called moved'],
    [
      'makes its own area with a copy of the list',
      () => {
        renameSync(inVolume(BEFORE), inVolume('moved'));
        execFileSync('cp', ['-a', inVolume('moved'), inVolume(BEFORE)]);
      },
      'it is another directory than the recorded one',
    ],
    [
      'replaces the area by a directory of root',
      () => {
        renameSync(inVolume(BEFORE), inVolume('moved'));
        mkdirSync(inVolume(BEFORE), { mode: 0o700 });
      },
      'its list of moves has changed',
    ],
  ])('and %s gets nothing: the record stays and says why', async (_what, change, refused) => {
    const known = await chowned();
    change();
    const one = { kind: 'before', id: ID, files: 0, bytes: 0, refused: expect.stringContaining(refused) };
    expect(await list(known)).toEqual([one]);
    const expected = {
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining(refused),
      hint: expect.anything(),
    };
    await expect(rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known })).rejects.toMatchObject(
      expected,
    );
    await expect(forgetAreas(volume, ID, () => {}, { known })).rejects.toMatchObject(expected);
    expect(live()).toBe('new');
    expect(existsSync(inVolume(BEFORE, 'tree')) || existsSync(inVolume('moved/tree'))).toBe(true);
    // Recovery does not say that the volume is whole, unless it finds the area that Lifeboat made.
    record = { before: known.inode as string, list: known.list as string };
    const recovered = await undo().catch((error) => error.hint);
    if (existsSync(inVolume('moved'))) expect(recovered).toBe('new');
    else expect(recovered).toContain(`move ${BEFORE} out of the volume`);
  });

  test('a changed list is not followed by recovery, whatever the inode is', async () => {
    await build();
    await killed(swap({ heard: killAt(2) }));
    execFileSync('chown', ['-R', '33:33', volume]);
    const moves = inVolume(BEFORE, 'moves.ndjson');
    const text = readFileSync(moves, 'utf8');
    writeFileSync(moves, text.replace('"top"', '"d/f"'));
    await expect(undo()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    writeFileSync(moves, text);
    expect(await undo()).toBe('old');
    expect(live()).toBe('old');
  });

  test('the area is locked again before anything is brought back', async () => {
    const known = await chowned();
    const held = Directory.open(inVolume(BEFORE));
    await rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known, check: true });
    expect(lstatSync(inVolume(BEFORE))).toMatchObject({ uid: 0, mode: 0o40700 });
    expect(lstatSync(inVolume(BEFORE, 'list.ndjson'))).toMatchObject({ uid: 0, mode: 0o100600 });
    held.close();
  });

  test('an area without a record is not trusted, and a record without a list says so', async () => {
    await chowned();
    expect(await list()).toEqual([]);
    expect(await list({ area: ID })).toMatchObject([{ refused: expect.stringContaining('user 33 owns it') }]);
    lchownSync(inVolume(BEFORE), 0, 0);
    chownSync(inVolume(BEFORE, 'list.ndjson'), 0, 0);
    expect(await list({ area: ID })).toMatchObject([{ restore: ID, holds: 'before' }]);
  });

  test('an interrupted deletion is completed after another change of owners', async () => {
    const known = await chowned();
    await killed(forgetAreas(volume, ID, killAt(2), { known }));
    execFileSync('chown', ['-R', '33:33', volume]);
    expect(await list(known)).toMatchObject([{ id: ID, forgotten: true }]);
    await forgetAreas(volume, ID, () => {}, { known });
    expect(areas()).toEqual([]);
  });

  test('a restore during whose build the owner changes is refused, and leaves nothing', async () => {
    await build();
    execFileSync('chown', ['-R', '33:33', volume]);
    await expect(swap()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringMatching(/owner or mode of \.lifeboat-restoring-.* has changed/),
    });
    expect(await undo()).toBe('old');
    expect(areas()).toEqual([]);
  });
});

test('a volume that was copied with its areas is recognised by the list', async () => {
  await build();
  const { kept: known } = await swap();
  renameSync(volume, `${volume}.old`);
  execFileSync('cp', ['-a', `${volume}.old`, volume]);
  expect(await list(known)).toMatchObject([{ restore: ID, holds: 'before' }]);
  await rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known });
  expect(live()).toBe('old');
});

describe('a file system', () => {
  const isOf = (name: string) => vi.spyOn(fileSystem, 'remoteFileSystem').mockReturnValue(name);

  test('that changes inodes does not make an unfinished swap look old', async () => {
    isOf('fuse');
    await build();
    await killed(swap({ heard: killAt(2) }));
    record = { ...record, before: '1', restoring: '2' };
    const { list: sum, ...rest } = record;
    record = { ...rest, list: '0'.repeat(64) };
    await expect(undo()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    record = { ...rest, list: sum as string };
    expect(await undo()).toBe('old');
    expect(live()).toBe('old');
  });

  test('whose server replaces root by another user (all_squash) is used; others are not', () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(4242);
    const root = Directory.open(volume);
    expect(() => createOwn(root, BEFORE)).toThrow(
      expect.objectContaining({ code: 'TREE_TARGET_REFUSED', hint: expect.stringContaining('no_root_squash') }),
    );
    expect(areas()).toEqual([]);
    isOf('nfs');
    const made = createOwn(root, BEFORE);
    expect(made.names()).toEqual([]);
    expect(isOwn(root, made.stat())).toBe(true);
    made.chown({ uid: 33, gid: 33 });
    expect(isOwn(root, made.stat())).toBe(false);
    made.close();
    root.close();
  });

  test('whose server replaces root keeps put-aside data, and takes back a swap that was killed', async () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(4242);
    isOf('nfs');
    await build();
    const { kept: known } = await swap();
    const { kept: second } = await rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known });
    expect(live()).toBe('old');
    await killed(
      rollBackArea({ root: volume, id: THIRD, at: AT, restore: ID, known: second, begun, heard: killAt(2) }),
    );
    expect(await undo(THIRD)).toBe('old');
    expect(live()).toBe('old');
    // Such a server refuses a change of owners, so none is tried.
    expect(lstatSync(inVolume(`.lifeboat-before-${SECOND}`)).uid).toBe(0);
  });

  test.each(['vfat', 'exfat', 'vboxsf'])('that stores no owners (%s) is used', (name) => {
    vi.spyOn(process, 'geteuid').mockReturnValue(4242);
    isOf(name);
    const root = Directory.open(volume);
    createOwn(root, RESTORING).close();
    root.close();
  });
});
