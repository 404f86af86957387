import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { foreseeStoredAgain } from '../../../src/check/stored-again.ts';
import type { PlannedSource } from '../../../src/plan/model.ts';
import type { SealKeys } from '../../../src/plan/seal-keys.ts';
import { ageKey, SealedBench, SOURCE } from '../../run/sealed-bench.ts';

const first = { ageRecipients: [ageKey().recipient] };
const second = { ageRecipients: [ageKey().recipient] };

let sealed: SealedBench;
beforeEach(() => {
  sealed = new SealedBench();
});
afterEach(() => sealed.bench.remove());

async function foresee(keys: SealKeys, damaged: readonly string[] = []) {
  const repository = await sealed.open(keys);
  const manifests = (await repository.snapshots()).snapshots.map(({ manifest }) => manifest);
  const sources = [SOURCE, 'web.new'].map((name) => ({ name }) as PlannedSource);
  const signal = AbortSignal.timeout(60_000);
  return foreseeStoredAgain({ plan: { sources }, repository, manifests, damaged: new Set(damaged), signal });
}

/** Returns the bytes of all packs in the repository. */
function packBytes(): number {
  const root = path.join(sealed.bench.destination.name, 'shop/packs');
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(path.join(parentPath, name)).size, 0);
}

test.each<[string, SealKeys, SealKeys, string]>([
  ['other recipients', first, second, 'LIFEBOAT_AGE_RECIPIENTS'],
  ['one more recipient', first, { ageRecipients: [...first.ageRecipients, ...second.ageRecipients] }, 'LIFEBOAT_AGE_R'],
  ['the first keys', {}, { gpgPassphrase: 'a passphrase' }, 'LIFEBOAT_GPG_PASSPHRASE'],
  ['no keys any more', first, { inTheClear: true }, 'LIFEBOAT_ENCRYPTION'],
])('says how much %s cost, before the run that pays it', async (_, before, after, setting) => {
  await sealed.run(before);
  expect(await foresee(before)).toEqual({ bytes: 0, notes: [] });
  const stored = packBytes();
  const { bytes, notes } = await foresee(after);
  expect(notes).toEqual([
    {
      subject: expect.stringContaining(setting),
      message: expect.stringMatching(/stores about 95\d KiB again \(web\.media 95\d KiB\); older snapshots still need/),
    },
  ]);
  const { entry } = await sealed.run(after);
  expect(entry.warnings).toEqual([expect.stringContaining('everything is stored again')]);
  // Encryption adds a few hundred bytes to a pack.
  expect(Math.abs(packBytes() - stored - bytes)).toBeLessThan(5000);
  expect(await foresee(after)).toEqual({ bytes: 0, notes: [] });
});

test('counts packs that were found damaged, and says so for each source', async () => {
  const { packs } = await sealed.run({});
  const [pack] = packs;
  const { bytes, notes } = await foresee({}, [pack!.key]);
  expect(bytes).toBe(pack!.size);
  expect(notes).toEqual([{ subject: SOURCE, message: expect.stringContaining('found damaged packs') }]);
});

test('a list of packs that cannot be read does not stop the plan', async () => {
  const { entry } = await sealed.run({});
  rmSync(path.join(sealed.bench.destination.name, entry.packs!.key));
  expect(await foresee(second)).toEqual({ bytes: 0, notes: [] });
});
