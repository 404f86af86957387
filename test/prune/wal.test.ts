import { beforeEach, expect, test } from 'vitest';
import type { Destination } from '../../src/destinations/destination.ts';
import { listUnneededWal } from '../../src/prune/wal.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { Signing } from '../../src/store/repository/signing.ts';
import { formatLsn, segmentName, startOf } from '../../src/store/wal/names.ts';
import type { WalRepository } from '../../src/store/wal/read-log.ts';
import { WalWriter } from '../../src/store/wal/write-log.ts';
import { inMemory } from '../store/memory-destination.ts';

const SIZE = 1024 * 1024;
const SYSTEM = '7713464397883531290';
const prefix = (system: string) => `shop/wal/db.postgres/${system}/`;

let objects: Map<string, string>;
let destination: Destination;
let repository: WalRepository;
let at: string;
beforeEach(() => {
  objects = new Map();
  destination = inMemory('memory', objects);
  repository = { destination, project: 'shop', keys: {}, signing: new Signing('one') };
  at = '2026-11-20T03:00:00.000Z';
});

const open = (systemId = SYSTEM) =>
  WalWriter.open(repository, {
    ...{ place: { project: 'shop', source: 'db.postgres', systemId }, segmentSize: SIZE, home: 'here' },
    now: () => new Date(at),
  });
const name = (number: number, timeline = 1) => segmentName({ timeline, number }, SIZE);
const keyOf = (file: string, system = SYSTEM) => `${prefix(system)}${file.slice(0, 8)}/${file}-abcdef`;

async function put(file: string, system = SYSTEM) {
  const key = keyOf(file, system);
  return { key, ...(await destination.put(key, streamOf(file))) };
}
async function store(from: number, to: number, { timeline = 1, system = SYSTEM } = {}): Promise<void> {
  const writer = await open(system);
  for (let number = from; number <= to; number++) {
    const file = name(number, timeline);
    await writer.append({ segments: [{ name: file, ...(await put(file, system)) }] });
  }
}
/** A snapshot with a base backup that begins and ends in a segment. */
const base = (number: number, { timeline = 1, system = SYSTEM, status = 'ok' } = {}) =>
  ({
    id: `base-${number}`,
    sources: {
      'db.postgres.base': {
        status,
        base: {
          ...{ systemId: system, timeline, startTime: at, stopTime: at },
          startLsn: formatLsn(startOf(number, SIZE) + 40n),
          stopLsn: formatLsn(startOf(number, SIZE) + 4096n),
        },
      },
    },
  }) as unknown as Manifest;
const unneeded = async (...manifests: Manifest[]) => {
  const keys: string[] = [];
  for await (const { key } of listUnneededWal(repository, manifests)) keys.push(key);
  return keys.sort();
};
const segments = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => keyOf(name(from + i)));

test('WAL before the oldest base backup goes, and none that it needs', async () => {
  await store(1, 9);
  expect(await unneeded(base(4), base(7))).toEqual(segments(1, 3));
  expect(await unneeded(base(1))).toEqual([]);
});

test('a base backup that failed needs no WAL', async () => {
  await store(1, 9);
  expect(await unneeded(base(2, { status: 'failed' }), base(7))).toEqual(segments(1, 6));
});

test('WAL of a server without a base backup stays while it is the present one: the first may be under way', async () => {
  await store(1, 3, { system: '1' });
  at = '2026-11-21T03:00:00.000Z';
  await store(1, 3);
  const keys = await unneeded(base(2, { system: '1' }));
  expect(keys).toEqual([keyOf(name(1), '1')]);
});

test('WAL of a former server goes with its last base backup', async () => {
  await store(1, 3, { system: '1' });
  at = '2026-11-21T03:00:00.000Z';
  await store(1, 3);
  const keys = await unneeded(base(1));
  expect(keys).toEqual([1, 2, 3].map((number) => keyOf(name(number), '1')));
});

test('both sides of a fork stay while a base backup before it does', async () => {
  await store(1, 9);
  const writer = await open();
  const history = { name: '00000002.history', ancestors: [{ timeline: 1, until: formatLsn(startOf(5, SIZE) + 100n) }] };
  await writer.append({ histories: [{ ...history, ...(await put(history.name)) }] });
  await store(5, 8, { timeline: 2 });
  expect(await unneeded(base(3))).toEqual(segments(1, 2));
  const later = await unneeded(base(7, { timeline: 2 }));
  expect(later).toEqual([...segments(1, 6), keyOf(name(5, 2)), keyOf(name(6, 2))]);
});

test('the beginning of an incomplete segment is needed like a complete one', async () => {
  const writer = await open();
  const part = async (number: number) => ({ from: 0, to: 5, ...(await put(`${name(number)}.00000000`)) });
  await writer.append({ open: { name: name(2), parts: [await part(2)] } });
  await writer.append({ open: { name: name(5), parts: [await part(5)] } });
  expect(await unneeded(base(2))).toEqual([]);
  expect(await unneeded(base(3))).toEqual([keyOf(`${name(2)}.00000000`)]);
  // The segment that is being received always stays.
  expect(await unneeded(base(9))).toEqual([keyOf(`${name(2)}.00000000`)]);
});

test('what no page names goes, and what is no WAL stays', async () => {
  await store(1, 2);
  await put(name(7));
  await destination.put(`${prefix(SYSTEM)}00000001/notes.txt`, streamOf('x'));
  expect(await unneeded(base(1))).toEqual([keyOf(name(7))]);
});

test('a damaged page keeps everything of its server', async () => {
  await store(1, 9);
  for (const key of objects.keys()) if (key.includes('/log/')) objects.set(key, 'damaged');
  expect(await unneeded(base(4))).toEqual([]);
});
