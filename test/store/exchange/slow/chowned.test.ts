import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { KnownArea } from '../../../../src/store/exchange/known-area.ts';
import { createOwn, isOwn } from '../../../../src/store/exchange/own-area.ts';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import * as fileSystem from '../../../../src/store/filesystem/file-system.ts';
import { selectByGlobs } from '../../../../src/store/filesystem/glob.ts';
import { type Bench, createBench } from '../../helpers.ts';
import { killAt, killed } from '../killed.ts';
import { createVolumeBench, ID, SECOND, THIRD, type VolumeBench } from '../volume-bench.ts';

/**
 * The entrypoint of an image changes the owner or mode of its whole volume at each start, areas included. The records
 * outside the volume show which areas Lifeboat made.
 */

const BEFORE = `.lifeboat-before-${ID}`;
const RESTORING = `.lifeboat-restoring-${ID}`;

let bench: Bench;
let volume: string;
let agent: VolumeBench;
const inVolume = (...parts: string[]) => join(volume, ...parts);

function fill(): void {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  agent = createVolumeBench(bench, volume);
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
  await agent.build(await bench.store(), {
    overwrite: true,
    ...(select === undefined ? {} : { select: selectByGlobs([select]) }),
  });
}

const live = () => (readFileSync(inVolume('top'), 'utf8').includes('volume') ? 'old' : 'new');

/** After both of two moves; after both and before the metadata; when the list is marked as done. */
const STEPS = [2, 4, 5];

describe.each(CHANGES)('after %s of the whole volume', (_what, change) => {
  test.each([
    ['everything', undefined],
    ['a part', '*'],
  ])('old data of a restore of %s is listed, brought back, and deleted', async (_which, select) => {
    await build(select);
    await agent.swap({ whole: select === undefined });
    expect(live()).toBe('new');
    change();
    expect(await agent.list()).toMatchObject([{ id: ID, files: 2 }]);
    await agent.back(SECOND, ID, { check: true });
    change();
    await agent.back(SECOND);
    expect(live()).toBe('old');
    expect(agent.areas()).toEqual([`.lifeboat-before-${SECOND}`]);
    change();
    expect(await agent.list()).toMatchObject([{ id: SECOND, files: 2 }]);
    await agent.back(THIRD);
    expect(live()).toBe('new');
    change();
    await agent.forget();
    expect(agent.areas()).toEqual([]);
    expect(live()).toBe('new');
  });

  test('a restore that was killed is taken back, or complete', async () => {
    const outcomes: string[] = [];
    for (const step of STEPS) {
      bench.remove();
      fill();
      await build();
      await killed(agent.swap({ heard: killAt(step) }));
      change();
      const now = await agent.undo();
      outcomes.push(now);
      expect(live()).toBe(now);
      expect(agent.areas()).toEqual(now === 'old' ? [] : [BEFORE]);
      expect(await agent.undo()).toBe(now);
    }
    expect(new Set(outcomes)).toEqual(new Set(['old', 'new']));
  });

  test('a rollback that was killed is taken back, or complete', async () => {
    const outcomes: string[] = [];
    for (const step of STEPS) {
      bench.remove();
      fill();
      await build();
      await agent.swap();
      change();
      await killed(agent.back(SECOND, ID, { heard: killAt(step) }));
      change();
      const now = await agent.undo(SECOND);
      outcomes.push(now);
      expect(live()).toBe(now === 'old' ? 'new' : 'old');
      expect(agent.areas()).toEqual([`.lifeboat-before-${now === 'old' ? ID : SECOND}`]);
      if (now === 'old') await agent.back(THIRD);
      expect(live()).toBe('old');
    }
    expect(new Set(outcomes)).toEqual(new Set(['old', 'new']));
  });

  test('what was built and not swapped is removed', async () => {
    const { mtimeMs } = lstatSync(volume);
    await build();
    change();
    const { mode, uid, gid } = lstatSync(volume);
    expect(await agent.undo()).toBe('old');
    expect(agent.areas()).toEqual([]);
    expect(lstatSync(volume)).toMatchObject({ mode, uid, gid, mtimeMs });
  });
});

vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) =>
  (await import('../killed.ts')).withoutRevert(original),
);

describe('a program that owns its volume and the areas in it', () => {
  async function chowned(): Promise<KnownArea> {
    await build();
    const { kept } = await agent.swap();
    execFileSync('chown', ['-R', '33:33', volume]);
    return kept as KnownArea;
  }

  test.each([
    ['changes the list', () => appendFileSync(inVolume(BEFORE, 'list.ndjson'), '\n'), 'its list of moves has changed'],
    ['removes the list', () => rmSync(inVolume(BEFORE, 'list.ndjson')), 'its list of moves is gone'],
    ['renames the area', () => renameSync(inVolume(BEFORE), inVolume('moved')), 'it is now called moved'],
    [
      'makes its own area with a copy of the list',
      () => {
        renameSync(inVolume(BEFORE), inVolume('moved'));
        execFileSync('cp', ['-a', inVolume('moved'), inVolume(BEFORE)]);
      },
      'it is now called moved',
    ],
    [
      'replaces the area by a directory of root',
      () => {
        renameSync(inVolume(BEFORE), inVolume('moved'));
        mkdirSync(inVolume(BEFORE), { mode: 0o700 });
      },
      'it is now called moved',
    ],
  ])('and %s gets nothing: the record stays and says why', async (_what, change, refused) => {
    const known = await chowned();
    change();
    expect(await agent.list()).toEqual([
      { kind: 'before', id: ID, files: 0, bytes: 0, refused: expect.stringContaining(refused) },
    ]);
    const expected = {
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringContaining(refused),
      hint: expect.anything(),
    };
    await expect(agent.back(SECOND)).rejects.toMatchObject(expected);
    await expect(agent.forget()).rejects.toMatchObject(expected);
    expect(agent.records[ID]).toEqual(known);
    expect(live()).toBe('new');
    expect(existsSync(inVolume(BEFORE, 'tree')) || existsSync(inVolume('moved/tree'))).toBe(true);
    // Recovery does not say that the volume is whole, unless it finds the area that Lifeboat made.
    delete agent.journal[ID]?.ended;
    const recovered = await agent.undo().catch((error) => error.message);
    if (existsSync(inVolume('moved'))) expect(recovered).toBe('new');
    else expect(recovered).toContain('an interrupted swap cannot be reversed');
  });

  test('a changed list is not followed by recovery, whatever the inode is', async () => {
    await build();
    await killed(agent.swap({ heard: killAt(2) }));
    execFileSync('chown', ['-R', '33:33', volume]);
    const moves = inVolume(BEFORE, 'moves.ndjson');
    const text = readFileSync(moves, 'utf8');
    writeFileSync(moves, text.replace('"top"', '"d/f"'));
    await expect(agent.undo()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    writeFileSync(moves, text);
    expect(await agent.undo()).toBe('old');
    expect(live()).toBe('old');
  });

  test('the area is locked again before anything is brought back', async () => {
    await chowned();
    const modes: number[] = [];
    const heard = () => {
      for (const name of ['', 'list.ndjson']) modes.push(lstatSync(inVolume(BEFORE, name)).mode);
      throw new Error('enough');
    };
    await expect(agent.back(SECOND, ID, { heard })).rejects.toThrow('enough');
    expect(modes.slice(0, 2)).toEqual([0o40700, 0o100600]);
    expect(lstatSync(inVolume(BEFORE)).uid).toBe(0);
    await agent.back(THIRD);
    expect(live()).toBe('old');
  });

  test('an interrupted deletion is completed after another change of owners', async () => {
    await chowned();
    await killed(agent.forget(ID, killAt(2)));
    execFileSync('chown', ['-R', '33:33', volume]);
    await expect(agent.back(SECOND)).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
    await agent.forget();
    expect(agent.areas()).toEqual([]);
  });

  test('a restore during whose build the owner changes is refused, and leaves nothing', async () => {
    await build();
    execFileSync('chown', ['-R', '33:33', volume]);
    await expect(agent.swap()).rejects.toMatchObject({
      code: 'TREE_TARGET_REFUSED',
      message: expect.stringMatching(/owner or mode of \.lifeboat-restoring-.* has changed/),
    });
    expect(await agent.undo()).toBe('old');
    expect(agent.areas()).toEqual([]);
  });
});

test('a copy of a volume keeps its old data, which is not recognised there', async () => {
  await build();
  await agent.swap();
  renameSync(volume, `${volume}.old`);
  execFileSync('cp', ['-a', `${volume}.old`, volume]);
  const refused = 'it is another directory than the recorded one';
  expect(await agent.list()).toMatchObject([{ id: ID, refused }]);
  await expect(agent.forget()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
  expect(existsSync(inVolume(BEFORE, 'tree/top'))).toBe(true);
});

describe('a file system', () => {
  const isOf = (name: string) => vi.spyOn(fileSystem, 'remoteFileSystem').mockReturnValue(name);

  test('that changes inodes does not make an unfinished swap look old', async () => {
    isOf('fuse');
    await build();
    await killed(agent.swap({ heard: killAt(2) }));
    const recorded = { ...agent.journal[ID], before: '1', restoring: '2' };
    agent.journal[ID] = { ...recorded, list: '0'.repeat(64) };
    await expect(agent.undo()).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    agent.journal[ID] = recorded;
    expect(await agent.undo()).toBe('old');
    expect(live()).toBe('old');
    expect(agent.areas()).toEqual([]);
  });

  test('whose server replaces root by another user (all_squash) is used; others are not', () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(4242);
    const root = Directory.open(volume);
    expect(() => createOwn(root, BEFORE)).toThrow(
      expect.objectContaining({ code: 'TREE_TARGET_REFUSED', hint: expect.stringContaining('no_root_squash') }),
    );
    expect(agent.areas()).toEqual([]);
    isOf('nfs');
    const made = createOwn(root, BEFORE);
    expect(made.names()).toEqual([]);
    expect(isOwn(root, made.stat())).toBe(true);
    made.chown({ uid: 33, gid: 33 });
    expect(isOwn(root, made.stat())).toBe(false);
    made.close();
    root.close();
  });

  test('whose server replaces root keeps old data, and takes back a swap that was killed', async () => {
    vi.spyOn(process, 'geteuid').mockReturnValue(4242);
    isOf('nfs');
    await build();
    await agent.swap();
    await agent.back(SECOND);
    expect(live()).toBe('old');
    await killed(agent.back(THIRD, ID, { heard: killAt(2) }));
    expect(await agent.undo(THIRD)).toBe('old');
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
