import { beforeEach, describe, expect, test } from 'vitest';
import type { Environment } from '../../src/app/environment.ts';
import { copyAloneDeps } from '../../src/app/wiring.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import type { RestoreDeps, RestoreRequest } from '../../src/restore/context.ts';
import { restore } from '../../src/restore/restore.ts';
import { rollback } from '../../src/restore/rollback.ts';

/** A restore or rollback while a copy holds the lock: the copy ends only for what can succeed. */

/** Whether each request for the lock asked its holder to give way. */
let asked: boolean[];
beforeEach(() => {
  asked = [];
});

const entry = { status: 'ok' };
const manifest = { id: '20261120T030000Z-000001', end: '2026-11-20T03:00:00.000Z', sources: { 'web.media': entry } };
const repository = {
  signing: { active: false },
  keys: {},
  async resolve(snapshot: string) {
    if (snapshot !== manifest.id) throw new LifeboatError('SNAPSHOT_UNKNOWN', 'no such snapshot');
    return { manifest };
  },
  snapshots: async () => ({ snapshots: [{ manifest }], damaged: [] }),
};
const deps = {
  async lock({ patient = true, ask = patient }: { patient?: boolean; ask?: boolean } = {}) {
    asked.push(ask);
    throw new LifeboatError('LOCKED', 'another run is under way');
  },
  repository: async () => repository,
  state: { directory: '/nowhere', rollbacks: async () => [{ id: 'r1', source: 'web.media' }] },
  now: () => new Date(),
  plan: async () => ({ sources: [] }),
} as unknown as RestoreDeps;
const request = (over: Partial<RestoreRequest>) =>
  ({ snapshot: manifest.id, source: 'web.media', canConfirm: true, dryRun: false, ...over }) as RestoreRequest;

describe('a request that fails anyway does not end the copy', () => {
  test.each<[string, Partial<RestoreRequest>, string]>([
    ['an unknown snapshot', { snapshot: '20200101T000000Z-aaaaaa' }, 'SNAPSHOT_UNKNOWN'],
    ['an unknown source', { source: 'web.other' }, 'SOURCE_UNKNOWN'],
    ['neither a terminal nor --yes', { canConfirm: false }, 'LOCKED'],
    ['a dry run', { dryRun: true }, 'LOCKED'],
  ])('a restore with %s', async (_, over, code) => {
    await expect(restore(deps, request(over))).rejects.toMatchObject({ code });
    expect(asked).not.toContain(true);
  });

  test.each([
    ['of nothing', { id: 'r2' }, 'NOTHING_TO_ROLL_BACK'],
    ['with neither a terminal nor --yes', { canConfirm: false }, 'LOCKED'],
  ])('a rollback %s', async (_, over, code) => {
    await expect(rollback(deps, { ...request({}), ...over })).rejects.toMatchObject({ code });
    expect(asked).not.toContain(true);
  });

  test('another copy', async () => {
    await expect(copyAloneDeps({ lock: deps.lock } as Environment).lock()).rejects.toMatchObject({ code: 'LOCKED' });
    expect(asked).toEqual([false]);
  });
});

test.each<[string, () => Promise<unknown>]>([
  ['a restore with consent', () => restore(deps, request({}))],
  [
    'a restore under a new name, which needs none',
    () => restore(deps, request({ canConfirm: false, toDatabase: 'n' })),
  ],
  ['a rollback with consent', () => rollback(deps, request({}))],
])('%s ends the copy', async (_, work) => {
  await expect(work()).rejects.toMatchObject({ code: 'LOCKED' });
  expect(asked).toEqual([false, true]);
});
