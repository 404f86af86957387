import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import type { Call } from '../../src/commands/call.ts';
import { pin } from '../../src/commands/pin.ts';
import { canonicalJson } from '../../src/store/objects/manifest.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { readPins } from '../../src/store/repository/pins.ts';
import type { Repository, Snapshot } from '../../src/store/repository/repository.ts';
import { putTombstone, tombstoneKey } from '../../src/store/repository/tombstones.ts';
import { inMemory } from '../store/memory-destination.ts';

/** Pins of a snapshot that is there, although a tombstone with its name is there too. */

const SIGNING = ['a signing key of this test'];
const ID = '20261120T030000Z-aaaaaa';

let repository: Repository;
let snapshot: Snapshot;

async function make(signingKeys: string[]) {
  repository = await openRepository(inMemory('memory', new Map()), {
    ...{ project: 'shop', create: true, keys: {}, signingKeys },
  });
  const at = '2026-11-20T03:00:00.000Z';
  snapshot = await repository.commit({
    ...{ format: 1, id: ID, project: 'shop', start: at, end: at, trigger: 'schedule', agentVersion: '0.1.0' },
    ...{ sequence: 1, previous: null, status: 'ok', sources: {} },
  });
}
beforeEach(() => make([]));

const pinIt = () =>
  pin({
    app: { repository: async () => repository },
    operands: [ID],
    options: {},
    io: { out: () => undefined },
    json: true,
  } as unknown as Call);

const isPinned = async () => (await readPins(repository)).has(ID);
const now = () => new Date().toISOString();

const forge = async (over: Record<string, unknown>) => {
  const place = { format: 1, id: ID, project: 'shop', sequence: 1, sha256: snapshot.hash, previous: null };
  const text = `${canonicalJson({ ...place, removed: now(), why: 'forged', ...over })}\n`;
  await repository.destination.put(tombstoneKey('shop', ID), streamOf(text));
};

test.each<[string, string[], () => Promise<void>]>([
  ['of another manifest', [], () => forge({ sha256: createHash('sha256').update('other').digest('hex') })],
  ['that cannot be read', [], () => forge({ removed: 'yesterday' })],
  ['without a signature', SIGNING, () => forge({})],
  ['of a prune that was interrupted days ago', [], () => forge({ removed: '2026-11-20T04:00:00.000Z' })],
])('a tombstone %s prevents no pin, and removes none', async (_, keys, put) => {
  await make(keys);
  await put();
  expect(await pinIt()).toBe(0);
  expect(await isPinned()).toBe(true);
  expect(await pinIt()).toBe(0);
  expect(await isPinned()).toBe(true);
});

test('a snapshot that a prune is removing cannot be pinned, unless it was pinned before', async () => {
  await putTombstone(repository, snapshot, { removed: now(), why: 'no source wanted it kept' });
  await expect(pinIt()).rejects.toMatchObject({ code: 'SNAPSHOT_UNKNOWN' });
  expect(await isPinned()).toBe(false);
  await make([]);
  await pinIt();
  await putTombstone(repository, snapshot, { removed: now(), why: 'no source wanted it kept' });
  expect(await pinIt()).toBe(0);
  expect(await isPinned()).toBe(true);
});
