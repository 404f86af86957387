import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../../src/base/log.ts';
import { check } from '../../../src/check/check.ts';
import type { KeepPolicy, Plan } from '../../../src/plan/model.ts';
import { parseKeep } from '../../../src/plan/retention.ts';
import type { SealKeys } from '../../../src/plan/seal-keys.ts';
import { type PruneResult, prune } from '../../../src/prune/prune.ts';
import { readTombstones } from '../../../src/store/repository/tombstones.ts';
import { keyId } from '../../../src/store/seal/encryption.ts';
import { ageKey, packKeys, SealedBench, SIGNING, SOURCE } from '../../run/sealed-bench.ts';
import { describeTree } from '../../store/helpers.ts';

/** Operations on an encrypted and signed repository, with different sets of keys. */

const [one, two] = [ageKey(), ageKey()];
const publicOnly: SealKeys = { ageRecipients: [one.recipient] };
const whole: SealKeys = { ...publicOnly, ageIdentity: one.identity };

let sealed: SealedBench;
beforeEach(() => {
  sealed = new SealedBench();
});
afterEach(() => sealed.bench.remove());

const options = (readData: number) => ({
  readData,
  spool: sealed.bench.spool,
  signal: AbortSignal.timeout(100_000),
});

test('check reports signatures and keys, without the identity that decrypts', async () => {
  const { manifest } = await sealed.run(publicOnly);
  expect(await check(await sealed.open(publicOnly), options(1))).toMatchObject({
    ...{ damaged: [], manifests: [], usable: true },
    signatures: { checked: true, signed: 1, unsigned: [], keys: [manifest.signature?.keyId] },
    keys: [{ encryption: 'age', id: keyId(publicOnly), snapshots: [manifest.id] }],
  });
  expect(await check(await sealed.open({}, []), options(1))).toMatchObject({
    manifests: [],
    signatures: { checked: false, signed: 1 },
    keys: [{ id: keyId(publicOnly) }],
  });
});

test('a restore without the right keys is refused before the user is asked', async () => {
  await sealed.run(publicOnly);
  writeFileSync(path.join(sealed.tree, 'small'), 'changed since');
  const present = describeTree(sealed.tree);
  let asked = 0;
  const confirm = async () => void asked++;
  for (const [keys, signing, code] of [
    [publicOnly, SIGNING, 'KEY_MISSING'],
    [{ ...publicOnly, ageIdentity: two.identity }, SIGNING, 'KEY_WRONG'],
    [whole, ['another signing key'], 'SIGNATURE_KEY'],
  ] as const)
    await expect(sealed.restore(keys, signing, confirm)).rejects.toMatchObject({ code });
  expect({ asked, tree: describeTree(sealed.tree) }).toEqual({ asked: 0, tree: present });
  await sealed.restore(whole, SIGNING, confirm);
  expect(asked).toBe(1);
  expect(readFileSync(path.join(sealed.tree, 'small'), 'utf8')).toContain('canary');
});

test('with only public keys, runs continue where the last one ended, repack and prune, and read nothing encrypted', async () => {
  const first = await sealed.run(publicOnly);
  const second = await sealed.run(publicOnly);
  expect(second.entry).toMatchObject({ newFiles: 0, warnings: [] });
  expect(packKeys(second)).toEqual(packKeys(first));
  // With other recipients everything is stored again, so each snapshot needs a single key.
  const both = { ageRecipients: [one.recipient, two.recipient] };
  const third = await sealed.run(both);
  expect(third.entry).toMatchObject({
    newFiles: 3,
    warnings: [expect.stringContaining('the encryption keys are not those of the last snapshot')],
  });
  expect(third.packs.map((pack) => pack.keyId)).toEqual([keyId(both), keyId(both)]);

  // Both passes: first the snapshots get tombstones, then the objects that only they named are removed.
  expect(await pruneNow(both)).toMatchObject({ snapshots: 2, objects: 0 });
  sealed.now = new Date(sealed.now.getTime() + 25 * 60 * 60_000);
  expect(await pruneNow(both)).toMatchObject({ snapshots: 0, objects: first.packs.length + 5 });
  const repository = await sealed.open(both);
  const tombstones = await readTombstones(repository);
  expect(tombstones.map(({ id, verdict }) => [id, verdict])).toEqual([
    [first.manifest.id, 'signed'],
    [second.manifest.id, 'signed'],
  ]);
  expect(await check(repository, options(0))).toMatchObject({ damaged: [], manifests: [], usable: true });

  // From here on, most of the pack that holds `small` is unused.
  for (const name of ['next to small', 'large']) rmSync(path.join(sealed.tree, name));
  expect((await sealed.run(both)).entry.newFiles).toBe(0);
  // The third snapshot still uses all of it.
  expect((await sealed.run(both)).entry.newFiles).toBe(0);
  sealed.now = new Date(sealed.now.getTime() + 25 * 60 * 60_000);
  expect((await pruneNow(both)).snapshots).toBe(2);
  const renewed = await sealed.run(both);
  expect(renewed.entry).toMatchObject({ newFiles: 1, warnings: [] });
  for (const key of packKeys(renewed)) expect(packKeys(third)).not.toContain(key);
  expect(sealed.read.filter((key) => /\.(age|gpg)$/.test(key))).toEqual([]);
});

async function pruneNow(keys: SealKeys): Promise<PruneResult> {
  const { value: keep } = parseKeep('1d') as { value: KeepPolicy };
  const sources = [{ name: SOURCE, keep, schedule: '0 3 * * *' }];
  const deps = {
    repository: await sealed.open(keys),
    plan: { project: 'shop', problems: [], sources } as unknown as Plan,
    state: { accepted: async () => ({}), results: async () => ({}) },
    journals: path.join(sealed.bench.spool, 'journals'),
    now: () => sealed.now,
    fence: async () => undefined,
    clockJump: () => undefined,
    signal: AbortSignal.timeout(100_000),
  };
  return prune({ ...deps, keep, zone: 'UTC', log: silentLog }, { dryRun: false });
}
