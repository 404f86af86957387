import { randomBytes } from 'node:crypto';
import { readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PlannedSource } from '../../../src/plan/model.ts';
import { foreseeRenewal } from '../../../src/prune/foresee-renewal.ts';
import { renewalRule } from '../../../src/store/content/repack.ts';
import { ageKey, SealedBench, SOURCE } from '../../run/sealed-bench.ts';
import { describeTree } from '../../store/helpers.ts';

const { identity, recipient } = ageKey();
const publicOnly = { ageRecipients: [recipient] };

let sealed: SealedBench;
beforeEach(() => {
  sealed = new SealedBench();
  for (const name of readdirSync(sealed.tree)) rmSync(path.join(sealed.tree, name));
  for (let i = 0; i < 20; i++) writeFileSync(path.join(sealed.tree, `file-${i}`), randomBytes(50_000));
});
afterEach(() => sealed.bench.remove());

/** Returns what a dry run of a prune says about the next backup. It needs no private key. */
async function foresee() {
  const repository = await sealed.open(publicOnly);
  const manifests = (await repository.snapshots()).snapshots.map(({ manifest }) => manifest);
  const plan = { sources: [{ name: SOURCE } as PlannedSource] };
  const signal = AbortSignal.timeout(60_000);
  return foreseeRenewal({ repository, plan, manifests, rule: renewalRule(0.05), signal });
}

test('an agent with only public keys frees packs that no snapshot uses much of', async () => {
  const first = await sealed.run(publicOnly);
  for (let i = 0; i < 12; i++) rmSync(path.join(sealed.tree, `file-${i}`));
  const second = await sealed.run(publicOnly);
  // The first snapshot uses all of them.
  expect(second.packs.map(({ id }) => id)).toEqual(first.packs.map(({ id }) => id));
  expect(second.entry.newBytes).toBe(0);
  expect(await foresee()).toEqual([]);

  rmSync(path.join(sealed.bench.destination.name, 'shop/snapshots', first.manifest.id), { recursive: true });
  const size = first.packs.reduce((sum, pack) => sum + pack.size, 0);
  const [foreseen] = await foresee();
  expect(foreseen).toMatchObject({ source: SOURCE, packs: first.packs.length, bytes: size });
  const third = await sealed.run(publicOnly);
  // 8 files of 50,000 bytes, and the overhead of zip and age.
  expect(third.entry.newBytes).toBeGreaterThan(400_000);
  expect(third.entry.newBytes).toBeLessThan(410_000);
  expect(Math.abs((foreseen?.again ?? 0) - third.entry.newBytes)).toBeLessThan(5000);
  expect(third.packs.filter(({ id }) => first.packs.some((pack) => pack.id === id))).toEqual([]);

  // It ends: nothing is unused any more.
  const fourth = await sealed.run(publicOnly);
  expect(fourth.entry.newBytes).toBe(0);
  const content = describeTree(sealed.tree);
  for (const name of readdirSync(sealed.tree)) rmSync(path.join(sealed.tree, name));
  await sealed.restore({ ...publicOnly, ageIdentity: identity });
  const restored = describeTree(sealed.tree);
  for (const [name, facts] of content) if (name !== '') expect(restored.get(name), name).toEqual(facts);
});
