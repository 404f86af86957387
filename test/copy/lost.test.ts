import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Side } from '../../src/copy/context.ts';
import { isForgotten, lostProblem } from '../../src/copy/lost.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { FORGOTTEN, putTombstone, tombstoneIds, tombstoneKey } from '../../src/store/repository/tombstones.ts';
import { CopyBench } from '../run/copy-bench.ts';

let bench: CopyBench;
let repository: Repository;
beforeEach(async () => {
  bench = new CopyBench();
  repository = await bench.main();
});
afterEach(() => bench.remove());

const isGivenUp = async (id: string, removed?: string[]) =>
  isForgotten({ repository, removed: removed ?? (await tombstoneIds(repository)) } as unknown as Side, id);

test('a manifest is given up if its tombstone says so, and for no other reason', async () => {
  const [forgotten, removed, present] = [await bench.night(), await bench.night(), await bench.night()];
  const at = '2026-11-20T03:00:00.000Z';
  await putTombstone(repository, forgotten, { removed: at, why: FORGOTTEN });
  await putTombstone(repository, removed, { removed: at, why: 'retention' });
  const id = ({ manifest }: typeof present) => manifest.id;
  expect(await isGivenUp(id(forgotten))).toBe(true);
  expect(await isGivenUp(id(removed))).toBe(false);
  expect(await isGivenUp(id(present))).toBe(false);
  // A tombstone that was not there when the destination was listed belongs to a later state.
  expect(await isGivenUp(id(forgotten), [])).toBe(false);
});

test('a tombstone that cannot be read gives nothing up', async () => {
  const { manifest } = await bench.night();
  await repository.destination.put(tombstoneKey('shop', manifest.id), streamOf('{'));
  expect(await isGivenUp(manifest.id)).toBe(false);
});

test('the name of a copy is quoted in the command that brings snapshots back', () => {
  const side = { repository: { destination: { name: 's3://b/p' } } } as unknown as Side;
  expect(lostProblem('s3://b/p (AWS)', side, ['a']).hint).toContain("`lifeboat copy --from 's3://b/p (AWS)'`");
});
