import { expect, test } from 'vitest';
import type { Call } from '../../src/commands/call.ts';
import { listSnapshots } from '../../src/commands/snapshots.ts';
import { keepSnapshot } from '../../src/prune/decide.ts';
import { lastGoodOf } from '../../src/run/history.ts';
import { listSourceStatuses, type SourceStatusInput } from '../../src/run/source-status.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { resolveSnapshot } from '../../src/store/repository/chain.ts';
import type { Repository } from '../../src/store/repository/repository.ts';

const ok = { kind: 'volume', status: 'ok', bytes: 1, newBytes: 1 };
const manifestOf = (sequence: number, end: string, at?: string) =>
  ({
    ...{ id: `${end.replaceAll(/[-:]/g, '').replace('.000', '')}-aaaaaa`, sequence, start: end, end, status: 'ok' },
    ...{ trigger: at === undefined ? 'manual' : 'import', sources: { 'web.media': ok } },
    ...(at === undefined ? {} : { imported: { at, file: 'old.tar' } }),
  }) as unknown as Manifest;

const imported = manifestOf(3, '2026-11-22T03:00:00.000Z', '2024-05-01T03:00:00.000Z');
const between = manifestOf(4, '2026-11-22T04:00:00.000Z', '2026-11-20T12:00:00.000Z');
const newer = manifestOf(2, '2026-11-21T03:00:00.000Z');
const older = manifestOf(1, '2026-11-20T03:00:00.000Z');
// In chain order.
const manifests = [between, imported, newer, older];
const snapshots = manifests.map((manifest) => ({ manifest, hash: '' }));

test('an import is listed where it was made, and never counts as the latest', async () => {
  let out = '';
  async function* none() {}
  const repository = {
    destination: { list: none },
    project: 'shop',
    snapshots: async () => ({ snapshots, damaged: [] }),
  };
  const call = {
    app: { repository: async () => repository },
    io: { out: (text: string) => (out += text) },
    json: true,
  } as unknown as Call;
  expect(await listSnapshots(call)).toBe(0);
  const ids = (JSON.parse(out) as { snapshots: { id: string }[] }).snapshots.map(({ id }) => id);
  expect(ids).toEqual([between.id, imported.id, newer.id, older.id]);
  out = '';
  expect(await listSnapshots({ ...call, json: false })).toBe(0);
  // The age is that of the snapshot, and the trigger says which state it holds.
  expect(out).toMatch(/^20261122T040000Z-aaaaaa .* ok +import, state of 2026-11-20 12:00:00Z /m);
  const latest = await resolveSnapshot(repository as unknown as Repository, 'latest', Date.parse(between.end));
  expect(latest.manifest.id).toBe(newer.id);
  expect(lastGoodOf(manifests, 'web.media')?.snapshot).toBe(newer.id);
  expect(lastGoodOf([imported], 'web.media')).toBeUndefined();
});

test('an import does not end an outage, and no retention rule counts it', () => {
  const failed = { ...older, sources: { 'web.media': { ...ok, status: 'failed' } } } as unknown as Manifest;
  const input = (all: Manifest[]) =>
    ({
      plan: { project: 'shop', sources: [{ name: 'web.media', schedule: '0 3 * * *' }], problems: [] },
      ...{ manifests: all, results: {}, accepted: {}, zone: 'UTC', now: new Date('2026-11-22T05:00:00Z') },
    }) as unknown as SourceStatusInput;
  const before = listSourceStatuses(input([failed]));
  expect(before).toMatchObject([{ attention: 'failed' }]);
  expect(listSourceStatuses(input([imported, failed]))).toEqual(before);
  expect(listSourceStatuses(input([imported]))).toMatchObject([{ attention: 'never' }]);
  expect(keepSnapshot(imported, undefined).safety).toBe(true);
  expect(keepSnapshot(newer, undefined).safety).toBe(false);
});
