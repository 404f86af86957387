import { createHash } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { streamOf } from '../../src/store/objects/objects.ts';
import type { PackRef } from '../../src/store/packs/pack-stream.ts';
import { readPacks } from '../../src/store/repository/pack-lists.ts';
import { CopyBench, MEDIA } from '../run/copy-bench.ts';

let bench: CopyBench;
beforeEach(() => {
  bench = new CopyBench();
  bench.signingKeys = [];
});
afterEach(() => bench.remove());

/** Somebody replaces a pack at the destination, and commits a snapshot that names it as it is now. */
async function forge(pack: PackRef, content: string): Promise<void> {
  const { manifest } = await bench.night();
  const entry = manifest.sources[MEDIA]!;
  const repository = await bench.main();
  bench.write('main', pack.key, content);
  const sha256 = createHash('sha256').update(content).digest('hex');
  const forged = { ...pack, size: content.length, sha256 };
  const packs = await repository.putPacks({ id: '20261120T030000Z-f0f0f0', source: MEDIA, packs: [forged] });
  await bench.night({ sources: { [MEDIA]: { ...entry, ...(packs ? { packs } : {}) } } });
}

test.each([
  ['another size', (content: string) => `${content} and more`, false],
  ['the same size, after a check found the pack of the copy damaged', (one: string) => one.replace('c', 'k'), true],
])('a forged manifest at the destination never costs the copy a pack: %s', async (_, change, isSuspect) => {
  const { manifest } = await bench.night();
  await bench.run();
  const [pack] = await readPacks(await bench.copy(), manifest.sources[MEDIA]!);
  const before = bench.files();
  await forge(pack!, change(before[pack!.key] as string));
  if (isSuspect) {
    bench.write('copy', pack!.key, 'x'.repeat(pack!.size));
    await bench.state.saveDamaged([pack!.key]);
  }
  const held = bench.files()[pack!.key];
  const place = { ...bench.place(), ...(isSuspect ? { suspects: bench.state } : {}) };
  const [report] = await bench.run({ copies: [place] });
  expect(bench.files()[pack!.key]).toBe(held);
  expect(report).toMatchObject({ status: 'partial', error: { code: 'OBJECT_DAMAGED' } });
  // The snapshot of the copy is reported first: the destination does not have its pack any more.
  if (!isSuspect) expect(report?.error?.message).toContain('contradicts a snapshot of the copy');
});

test('an object of the copy that is cut, or that none of its snapshots needs, is still replaced', async () => {
  const { manifest } = await bench.night();
  await bench.run();
  const [cut] = await readPacks(await bench.copy(), manifest.sources[MEDIA]!);
  bench.write('copy', cut!.key, 'cut');
  const next = await bench.night();
  const packs = await readPacks(await bench.main(), next.manifest.sources[MEDIA]!);
  const own = packs.find(({ key }) => key !== cut!.key)!;
  await bench.destination('copy').put(own.key, streamOf('left behind'));
  expect(await bench.run()).toMatchObject([{ status: 'ok', snapshots: 1 }]);
  expect(bench.files()).toEqual(bench.files('main'));
});
