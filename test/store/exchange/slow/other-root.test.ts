import { mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type Bench, createBench } from '../../helpers.ts';
import { killAt, killed } from '../killed.ts';
import { createVolumeBench, ID, SECOND, type VolumeBench } from '../volume-bench.ts';

/** A volume whose disk is not mounted, and areas that are not where they were: nothing is concluded from that. */

const BEFORE = `.lifeboat-before-${ID}`;

let bench: Bench;
let volume: string;
let agent: VolumeBench;

vi.mock(import('../../../../src/store/exchange/undo-exchange.ts'), async (original) =>
  (await import('../killed.ts')).withoutRevert(original),
);

beforeEach(() => {
  bench = createBench();
  volume = join(bench.spool, '..', 'volume');
  agent = createVolumeBench(bench, volume);
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

const build = async () => agent.build(await bench.store(), { overwrite: true });
const undo = () => agent.undo();
const live = () => (readFileSync(join(volume, 'top'), 'utf8').includes('volume') ? 'old' : 'new');
const unmount = () => {
  renameSync(volume, `${volume}.disk`);
  mkdirSync(volume);
};
const mount = () => {
  rmdirSync(volume);
  renameSync(`${volume}.disk`, volume);
};

/** Swaps, and dies after the moves: what the process would undo itself stays. */
async function die(): Promise<void> {
  expect(await killed(agent.swap({ heard: killAt(2) }))).toBe(true);
  expect(agent.journal[ID]?.list).toBeDefined();
  expect(agent.journal[ID]?.ended).toBeUndefined();
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
  expect(await agent.swap()).not.toHaveProperty('kept');
  expect(agent.journal[ID]?.ended).toEqual({ now: 'new', kept: false });
  expect(readdirSync(volume)).toEqual(['d', 'top']);
  expect(await undo()).toBe('new');
});

test('old data of a volume that is not mounted is missing, not gone, and stays', async () => {
  await build();
  await agent.swap();
  const find = () => agent.list();
  unmount();
  expect(await find()).toMatchObject([{ id: ID, missing: 'volume' }]);
  const back = () => agent.back(SECOND);
  await expect(back()).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK', hint: expect.stringContaining('Mount') });
  await expect(agent.forget()).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
  mount();
  expect(await find()).toMatchObject([{ id: ID, files: 2 }]);
  // Moved to where nobody looks for it.
  renameSync(join(volume, BEFORE), join(volume, 'd', BEFORE));
  expect(await find()).toMatchObject([{ id: ID, missing: 'area' }]);
  await expect(back()).rejects.toMatchObject({ code: 'NOTHING_TO_ROLL_BACK' });
  renameSync(join(volume, 'd', BEFORE), join(volume, BEFORE));
  await back();
  expect(live()).toBe('old');
});
