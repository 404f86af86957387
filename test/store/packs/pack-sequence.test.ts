import { randomBytes } from 'node:crypto';
import { readdirSync, readlinkSync } from 'node:fs';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import type { Destination } from '../../../src/destinations/destination.ts';
import { PackSequence } from '../../../src/store/packs/pack-sequence.ts';
import type { PackRef } from '../../../src/store/packs/pack-stream.ts';
import { seal } from '../../../src/store/seal/seal.ts';
import { type Bench, createBench } from '../helpers.ts';
import { zip } from '../packs.ts';

let bench: Bench;
let packs: PackRef[];
const events: string[] = [];
/** Called before an object is read. */
let onGet: (key: string, signal?: AbortSignal) => unknown;
let destination: Destination;

beforeEach(async () => {
  bench = createBench();
  events.length = 0;
  onGet = () => undefined;
  packs = await Promise.all(['a', 'b', 'c'].map((name) => put(name)));
  destination = {
    ...bench.destination,
    get: async (key, options) => {
      events.push(`get ${key.slice(0, 1)}`);
      await onGet(key, options?.signal);
      return bench.destination.get(key, options);
    },
  };
});
afterEach(() => bench.remove());

/** Puts a pack with one content: its name. */
async function put(name: string, compress = true): Promise<PackRef> {
  const plain = zip([name, Buffer.from(name)], ['rest', randomBytes(100_000)]);
  const sealed = seal(Readable.from([plain]), { compress, keys: {} });
  const key = `${name}.zip${sealed.suffix}`;
  const stored = await bench.destination.put(key, Readable.from([await buffer(sealed.stream)]));
  return { id: name.repeat(32), key, ...stored, plainSize: plain.length };
}

const sequence = (order = packs) => new PackSequence(order, { destination, keys: {}, spool: bench.spool });

/** Resolves to the content of a pack, once the fetch of the next one has begun. */
async function read(from: PackSequence, pack: PackRef): Promise<string> {
  const reader = await from.open(pack);
  try {
    return (await reader.read(pack.key.slice(0, 1), 1)).toString();
  } finally {
    await reader.close();
  }
}

/** Returns files of the spool that this process has open. */
const openFiles = () =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(bench.spool);
    } catch {
      return false;
    }
  });

test('while a pack is read, the next is fetched: each once, and nothing is left', async () => {
  const from = sequence();
  const first = await from.open(packs[0]!);
  expect(events).toEqual(['get a', 'get b']);
  expect((await first.read('a', 1)).toString()).toBe('a');
  await first.close();
  expect(await read(from, packs[1]!)).toBe('b');
  expect(await read(from, packs[2]!)).toBe('c');
  await from.close();
  expect(events).toEqual(['get a', 'get b', 'get c']);
  expect([readdirSync(bench.spool), openFiles()]).toEqual([[], []]);
});

test('a pack that is opened twice is fetched twice, also if it follows itself', async () => {
  const [a, b] = packs as [PackRef, PackRef];
  const from = sequence([a, a, b, a]);
  for (const pack of [a, a, b, a]) expect(await read(from, pack)).toBe(pack.key.slice(0, 1));
  await from.close();
  expect(events).toEqual(['get a', 'get a', 'get b', 'get a']);
});

test('packs in another order, and others, are right', async () => {
  const [a, b, c] = packs as [PackRef, PackRef, PackRef];
  const from = sequence([a, b]);
  for (const pack of [a, c, b, a, c]) expect(await read(from, pack)).toBe(pack.key.slice(0, 1));
  await from.close();
  expect([readdirSync(bench.spool), openFiles()]).toEqual([[], []]);
});

test('an error of the next pack is reported when it is opened, and not before', async () => {
  onGet = (key) => {
    if (key.startsWith('b')) throw new LifeboatError('OBJECT_MISSING', 'gone');
  };
  const from = sequence();
  expect(await read(from, packs[0]!)).toBe('a');
  await expect(from.open(packs[1]!)).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  await from.close();
});

test('a pack for which there was no room beside another is fetched again', async () => {
  let tries = 0;
  onGet = (key) => {
    if (key.startsWith('b') && tries++ === 0) throw new LifeboatError('SPOOL_FULL', 'there is no room');
  };
  const from = sequence();
  for (const pack of packs) expect(await read(from, pack)).toBe(pack.key.slice(0, 1));
  await from.close();
  expect(tries).toBe(2);
});

test('a spool that cannot be inspected keeps the pack that is open', async () => {
  const plain = await put('d', false);
  const from = new PackSequence([plain, packs[0]!], { destination, keys: {}, spool: `${bench.spool}/gone` });
  expect(await read(from, plain)).toBe('d');
  await from.close();
});

test('closing ends a fetch in progress', async () => {
  onGet = (key, signal) =>
    key.startsWith('b') &&
    new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
  const from = sequence();
  expect(await read(from, packs[0]!)).toBe('a');
  await from.close();
  expect([readdirSync(bench.spool), openFiles()]).toEqual([[], []]);
});

test('a plain pack is read at the destination, when it is needed', async () => {
  const plain = await put('d', false);
  const from = sequence([packs[0]!, plain]);
  expect(await read(from, packs[0]!)).toBe('a');
  expect(events).toEqual(['get a']);
  expect(await read(from, plain)).toBe('d');
  await from.close();
});
