import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { buildTree, undoIncomplete } from '../../../../src/store/exchange/build-tree.ts';
import type { KnownArea } from '../../../../src/store/exchange/known-area.ts';
import { listAreas } from '../../../../src/store/exchange/list-areas.ts';
import type { AreaRecord } from '../../../../src/store/exchange/own-area.ts';
import * as undoing from '../../../../src/store/exchange/undo-exchange.ts';
import { forgetAreas, rollBackArea, swapBuilt } from '../../../../src/store/exchange/volume-areas.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import { type Bench, createBench } from '../../helpers.ts';

/** A volume whose disk is not mounted, and areas that are not where they were: nothing is concluded from that. */

const ID = '20261120T030000Z-00000a';
const SECOND = '20261120T030000Z-00000b';
const AT = '2026-11-20T03:00:00.000Z';
const BEFORE = `.lifeboat-before-${ID}`;

let bench: Bench;
let volume: string;
let record: AreaRecord;

beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  record = {};
  for (const root of [bench.tree, volume]) {
    mkdirSync(join(root, 'd'), { recursive: true });
    writeFileSync(join(root, 'd/f'), `f of ${root}`);
    writeFileSync(join(root, 'top'), `top of ${root}`);
  }
});
afterEach(() => {
  vi.restoreAllMocks();
  bench.remove();
});

async function build(): Promise<void> {
  const stored = await bench.store();
  const { packs } = stored;
  const index = () => readIndexFileLines(bench.index);
  const made = (areas: AreaRecord) => {
    record = areas;
  };
  const { destination, spool } = bench;
  await buildTree({
    root: volume,
    id: ID,
    index,
    packs,
    destination,
    keys: {},
    spool,
    overwrite: true,
    needed: 0,
    made,
  });
}

/** Journals what an exchange records. */
const begun = ({ inode: before, ...known }: KnownArea) => {
  const { list, root } = known;
  Object.assign(record, { before, list, root });
};
const ended = (state: AreaRecord['ended']) => Object.assign(record, { ended: state });
const swap = (heard: () => void = () => undefined) =>
  swapBuilt({ root: volume, id: ID, at: AT, whole: true, snapshot: 'snap', areas: record, begun, ended, heard });
const undo = () => undoIncomplete(volume, ID, { record, ended });
const live = () => (readFileSync(join(volume, 'top'), 'utf8').includes('volume') ? 'old' : 'new');
const unmount = () => {
  renameSync(volume, `${volume}.disk`);
  mkdirSync(volume);
};
const mount = () => {
  rmdirSync(volume);
  renameSync(`${volume}.disk`, volume);
};

/** Swaps, and dies after the first move: what the process would undo itself stays. */
async function die(): Promise<void> {
  vi.spyOn(undoing, 'undoFound').mockRejectedValue(new Error('dead'));
  let steps = 0;
  const kill = () => {
    if (++steps === 2) throw new Error('killed');
  };
  await swap(kill).catch(() => undefined);
  vi.restoreAllMocks();
  expect(record.list).toBeDefined();
  expect(record.ended).toBeUndefined();
}

test('a swap that was cut off is not taken for undone while the disk of its volume is not mounted', async () => {
  await build();
  await die();
  unmount();
  await expect(undo()).rejects.toMatchObject({ code: 'TREE_HALF_RESTORED', hint: expect.stringContaining('Mount') });
  mount();
  expect(await undo()).toBe('old');
  expect(live()).toBe('old');
  // The answer of the first undo was lost, and its area is removed.
  expect(await undo()).toBe('old');
  expect(readdirSync(volume)).toEqual(['d', 'top']);
});

test('the same if nothing had moved yet, so that what was built is removed later', async () => {
  await build();
  unmount();
  await expect(undo()).rejects.toMatchObject({ code: 'TREE_HALF_RESTORED' });
  mount();
  expect(await undo()).toBe('old');
  expect(readdirSync(volume)).toEqual(['d', 'top']);
});

test('a volume is not called old because somebody moved the area of a swap that was cut off', async () => {
  await build();
  await die();
  const out = join(bench.spool, '..', 'out');
  renameSync(join(volume, BEFORE), out);
  await expect(undo()).rejects.toMatchObject({
    code: 'TREE_HALF_RESTORED',
    message: expect.stringContaining('is gone'),
  });
  renameSync(out, join(volume, BEFORE));
  expect(await undo()).toBe('old');
  expect(live()).toBe('old');
});

test('an empty area shows that somebody put the volume in order by hand; which data that is, is not known', async () => {
  await build();
  await die();
  for (const name of readdirSync(join(volume, BEFORE))) rmSync(join(volume, BEFORE, name), { recursive: true });
  expect(await undo()).toBe('unknown');
  expect(readdirSync(volume)).not.toContain(BEFORE);
});

test('a complete swap that put nothing aside is new, although its area is removed', async () => {
  rmSync(volume, { recursive: true });
  mkdirSync(volume);
  await build();
  expect(await swap()).toMatchObject({ holds: 'before' });
  expect(record.ended).toEqual({ now: 'new', kept: false });
  expect(readdirSync(volume)).toEqual(['d', 'top']);
  expect(await undo()).toBe('new');
});

test('put-aside data of a volume that is not mounted is missing, not gone, and stays', async () => {
  await build();
  const { kept } = await swap();
  const known = kept as KnownArea;
  const find = () => listAreas(volume, { known: [known] });
  unmount();
  expect(await find()).toMatchObject([{ id: ID, missing: 'volume' }]);
  const back = () => rollBackArea({ root: volume, id: SECOND, at: AT, restore: ID, known });
  await expect(back()).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK', hint: expect.stringContaining('Mount') });
  await expect(forgetAreas(volume, ID, () => undefined, { known })).rejects.toMatchObject({
    code: 'NOTHING_TO_ROLL_BACK',
  });
  mount();
  expect(await find()).toMatchObject([{ id: ID, restore: ID, holds: 'before' }]);
  // Moved to where nobody looks for it.
  renameSync(join(volume, BEFORE), join(volume, 'd', BEFORE));
  expect(await find()).toMatchObject([{ id: ID, missing: 'area' }]);
  await expect(back()).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
  renameSync(join(volume, 'd', BEFORE), join(volume, BEFORE));
  await back();
  expect(live()).toBe('old');
});
