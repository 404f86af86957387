import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import type { Manifest } from '../../../../src/store/objects/manifest.ts';
import { openRepository } from '../../../../src/store/repository/open-repository.ts';
import { readPacks } from '../../../../src/store/repository/pack-lists.ts';
import { type Bench, createBench, describeTree } from '../../helpers.ts';

/** The number of faults to try; each takes about 20 ms. Restores remove what a failed extraction leaves behind. */
const RUNS = 1000;
const IDS = ['20261120T030000Z-00000a', '20261121T030000Z-00000b'] as const;

let bench: Bench;
let repository: string;
let whole: string;
let objects: string[];
const trees = new Map<string, ReturnType<typeof describeTree>>();

const open = () => openRepository(bench.destination, { project: 'shop', create: true, keys: {} });

async function commit(id: string, before: { manifest: Manifest; hash: string } | undefined) {
  const opened = await open();
  const stored = await bench.store();
  const index = await opened.putIndex(id, 'web.media', bench.index);
  const facts = await opened.putFacts(id, 'web.media', { kind: 'volume', note: id });
  const { files, bytes, newBytes, newFiles } = stored;
  const counts = { files, bytes, newBytes, newFiles };
  const texts = { summary: `${files} files`, warnings: [], skipped: {} };
  const packs = (await opened.putPacks({ id, source: 'web.media', packs: stored.packs }))!;
  const source = { kind: 'volume', status: 'ok', index, facts, packs, ...counts, ...texts } as const;
  const at = `${id.slice(0, 4)}-${id.slice(4, 6)}-${id.slice(6, 8)}T03:00:00.000Z`;
  const times = { start: at, end: at, trigger: 'schedule', agentVersion: '0.1.0', status: 'ok' } as const;
  const chain = { sequence: (before?.manifest.sequence ?? 0) + 1, previous: before?.hash ?? null };
  trees.set(id, describeTree(bench.tree));
  return opened.commit({ format: 1, id, project: 'shop', ...chain, ...times, sources: { 'web.media': source } });
}

beforeAll(async () => {
  bench = createBench(1000);
  repository = join(bench.tree, '../repo');
  whole = join(bench.tree, '../whole');
  mkdirSync(join(bench.tree, 'dir'));
  for (let i = 0; i < 12; i++) writeFileSync(join(bench.tree, `dir/small-${i}`), `content ${i} `.repeat(i * 8));
  for (let i = 0; i < 2; i++) writeFileSync(join(bench.tree, `large-${i}`), `${i}`.repeat(3000 + i));
  symlinkSync('dir/small-1', join(bench.tree, 'link'));
  const first = await commit(IDS[0], undefined);
  writeFileSync(join(bench.tree, 'dir/small-3'), 'another content');
  writeFileSync(join(bench.tree, 'later'), 'new');
  await commit(IDS[1], first);
  cpSync(repository, whole, { recursive: true, preserveTimestamps: true });
  objects = readdirSync(repository, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(repository.length + 1))
    .sort();
});
afterAll(() => bench.remove());

type Damage =
  | { kind: 'flip'; object: number; at: number; bit: number }
  | { kind: 'cut'; object: number; at: number }
  | { kind: 'append' | 'remove' | 'empty'; object: number }
  | { kind: 'swap' | 'replace'; object: number; other: number };

const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
const object = fc.nat({ max: 999 });
const damage: fc.Arbitrary<Damage> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ kind: fc.constant('flip' as const), object, at: share, bit: fc.nat({ max: 7 }) }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('cut' as const), object, at: share }) },
  fc.record({ kind: fc.constantFrom('append' as const, 'remove' as const, 'empty' as const), object }),
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constantFrom('swap' as const, 'replace' as const), object, other: object }),
  },
);

/** Applies damage. Returns the objects that it changed. */
function inflict(d: Damage): string[] {
  const key = objects[d.object % objects.length] as string;
  const file = join(repository, key);
  const bytes = readFileSync(file);
  if (d.kind === 'remove') rmSync(file);
  else if (d.kind === 'empty') writeFileSync(file, '');
  else if (d.kind === 'append') writeFileSync(file, Buffer.concat([bytes, Buffer.from('x')]));
  else if (d.kind === 'cut') writeFileSync(file, bytes.subarray(0, Math.floor(bytes.length * d.at)));
  else if (d.kind === 'flip') {
    const at = Math.floor(bytes.length * d.at);
    bytes[at] = (bytes[at] as number) ^ (1 << d.bit);
    writeFileSync(file, bytes);
  } else if (d.kind === 'swap' || d.kind === 'replace') {
    const other = objects[d.other % objects.length] as string;
    const otherBytes = readFileSync(join(repository, other));
    writeFileSync(file, otherBytes);
    if (d.kind === 'replace') return [key];
    writeFileSync(join(repository, other), bytes);
    return [key, other];
  }
  return [key];
}

test(`${RUNS} damages: each restore returns the stored data, or fails with an error code`, {
  timeout: 1_800_000,
}, async () => {
  const outcomes = new Map<string, number>();
  const count = (outcome: string) => outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  await fc.assert(
    fc.asyncProperty(damage, fc.constantFrom(...IDS), async (d, id) => {
      const changed = inflict(d);
      const target = join(bench.tree, '../restored');
      const fetched = join(bench.tree, '../fetched');
      try {
        const opened = await openRepository(bench.destination, { project: 'shop', create: false, keys: {} });
        const { manifest } = await opened.resolve(id);
        const source = manifest.sources['web.media'];
        if (!source?.index || !source.facts) throw new LifeboatError('OBJECT_MISSING', 'it names no index');
        const packs = await readPacks(opened, source);
        await opened.checkObjects([source.index, source.facts, ...packs]);
        expect(await opened.readFacts(source.facts)).toEqual({ kind: 'volume', note: id });
        await opened.fetchIndex(source.index, fetched);
        await bench.extract({ packs } as never, {
          index: readIndexFileLines(fetched),
          target,
        });
        expect(describeTree(target)).toEqual(trees.get(id));
        count('whole');
      } catch (error) {
        if (!(error instanceof LifeboatError)) throw error;
        expect(error.code).not.toBe('INTERNAL');
        count(error.code);
      } finally {
        rmSync(target, { recursive: true, force: true });
        rmSync(fetched, { force: true });
        for (const key of changed) cpSync(join(whole, key), join(repository, key), { preserveTimestamps: true });
      }
    }),
    { numRuns: RUNS },
  );
  // Some damage hits objects that only the other snapshot needs. Most damage is noticed.
  expect(outcomes.get('OBJECT_DAMAGED')).toBeGreaterThan(RUNS / 5);
  expect(outcomes.get('whole')).toBeGreaterThan(RUNS / 20);
});
