import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Part } from '../../src/drill/context.ts';
import { checkWal } from '../../src/drill/wal-check.ts';
import type { DrillCheck } from '../../src/report/drill-report.ts';
import { findStart } from '../../src/restore/point/find-start.ts';
import { encodeRepositoryInfo, FORMAT, type Manifest, type RepositoryInfo } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { keyOf, nameOf, WalBench } from '../store/wal/bench.ts';

const INFO: RepositoryInfo = { format: FORMAT, id: 'a'.repeat(32), created: '2026-11-20T00:00:00.000Z' };

let directory: string;
let bench: WalBench;
let bases: Manifest[];
beforeEach(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'wal-check-'));
  bench = new WalBench();
  bases = [];
  bench.objects.set('lifeboat.json', encodeRepositoryInfo(INFO).toString());
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(directory, { recursive: true });
});

const HOUR = 3_600_000;
const hour = (number: number) => `2026-11-20T${String(number).padStart(2, '0')}:00:00.000Z`;

async function store(from: number, to: number, timeline = 1): Promise<void> {
  await bench.store(from, to, { timeline, reached: hour });
}
function base(number: number): void {
  bench.at = hour(number);
  bases.push(bench.base(number));
}

/** Checks the WAL of a recovery to a time. */
async function check(at: string, { leftMs = HOUR, random = 0 } = {}): Promise<DrillCheck[]> {
  const repository = {
    ...{ ...bench.repository, info: INFO },
    snapshots: async () => ({ snapshots: bases.map((manifest) => ({ manifest })), damaged: [] }),
    resolve: async (id: string) => ({ manifest: bases.find((one) => one.id === id) }),
  } as unknown as Repository;
  const { signal } = new AbortController();
  const target = { date: new Date(at), text: at };
  const start = await findStart(repository, { source: 'db.postgres', signal, target }, undefined);
  const result = { checks: [], steps: [] as object[] };
  const part = { context: { directory }, result, signal, until: performance.now() + leftMs, say: () => undefined };
  await checkWal(repository, part as unknown as Part, { server: 'db.postgres', start }, random);
  expect(await readdir(directory)).toEqual([]);
  return result.checks;
}
const STORED = 'stored write-ahead log';
const SHA = 'SHA-256 of the write-ahead log';
const brief = (checks: readonly DrillCheck[]) => checks.map(({ name, result }) => `${name}: ${result}`);
const whole = [`${STORED}: ok`, `${SHA}: ok`];

describe('the stored write-ahead log', () => {
  test('is whole in an older window too, if a later base backup has closed the hole', async () => {
    await store(2, 5);
    await store(8, 12);
    base(2);
    base(9);
    expect(brief(await check(hour(4)))).toEqual(whole);
    expect(brief(await check(hour(10)))).toEqual(whole);
  });

  test('is not whole behind the last window of its timeline', async () => {
    await store(2, 5);
    await store(8, 9);
    await store(11, 12);
    base(2);
    base(8);
    for (const at of [4, 9]) {
      const [stored] = await check(hour(at));
      const words = `no recovery reaches 2 segments from ${nameOf(11)} on: WAL before it is not stored`;
      expect(stored).toMatchObject({ result: 'failed', differences: [words] });
    }
  });
});

describe('the content of the write-ahead log', () => {
  const damage = (number: number) => bench.objects.set(keyOf(nameOf(number)), 'x'.repeat(nameOf(number).length));
  beforeEach(async () => {
    await store(2, 12);
    base(2);
  });

  test('is read to the end of what is stored', async () => {
    expect((await check(hour(4)))[1]).toMatchObject({ result: 'ok', detail: '11 files from the base backup on' });
    damage(12);
    const [, sha] = await check(hour(4));
    expect(sha).toMatchObject({ result: 'failed', differences: [expect.stringContaining(nameOf(12))] });
  });

  test('is skipped if there is no time, and says how much', async () => {
    damage(2);
    expect((await check(hour(4), { leftMs: 0 })).slice(1)).toEqual([
      { name: SHA, of: 'db.postgres', result: 'skipped', detail: 'there was no time to read 11 of 11 files' },
    ]);
  });

  test('is read from a random file on while there is time, and what is damaged counts', async () => {
    damage(12);
    const { destination } = bench.repository;
    const get = destination.get.bind(destination);
    let clock = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => clock);
    const read: string[] = [];
    Object.assign(destination, {
      get: async (key: string) => {
        if (key.includes(nameOf(12).slice(0, 16))) read.push(key);
        // Reading one file takes more than a quarter of the time that is left.
        clock += 300;
        return get(key);
      },
    });
    const found = (await check(hour(4), { leftMs: 1000, random: 0.95 })).slice(1);
    expect(read[0]).toContain(nameOf(12));
    expect(read.length).toBeLessThan(11);
    expect(found).toMatchObject([
      { name: SHA, result: 'failed', differences: [expect.stringContaining(nameOf(12))] },
      { name: SHA, result: 'skipped', detail: expect.stringMatching(/^there was no time to read \d+ of 11 files$/) },
    ]);
  });
});
