import { expect, test } from 'vitest';
import { spoolProblems } from '../../src/check/foresee.ts';
import type { Call } from '../../src/commands/call.ts';
import { status } from '../../src/commands/status.ts';
import { plainPaint } from '../../src/report/paint.ts';

/** The command `status` where the state in the spool does not tell everything. */

const AT = new Date(Date.now() - 60_000).toISOString();
const object = (key: string) => ({ key, size: 1, sha256: '0'.repeat(64) });
const SNAPSHOT = {
  id: '20261120T030000Z-aaaaaa',
  end: AT,
  trigger: 'schedule',
  sequence: 1,
  sources: {
    'web.media': { kind: 'volume', status: 'ok', bytes: 1, files: 1, index: object('index'), packs: [object('pack')] },
  },
};

async function show({
  manifests = [SNAPSHOT] as object[],
  keys = [] as string[],
  damaged = [] as string[],
  results = {} as object,
} = {}) {
  async function* list() {
    for (const key of keys) yield { key, size: 1 };
  }
  const repository = {
    project: 'shop2',
    destination: { name: '/backups', list },
    snapshots: async () => ({ snapshots: manifests.map((manifest) => ({ manifest })), damaged: [] }),
    seen: [],
  };
  let out = '';
  const call = {
    app: {
      project: 'shop2',
      destination: { name: '/backups' },
      settings: { timeZone: 'UTC', copies: [{ name: '/nas' }] },
      state: {
        lastRun: async () => undefined,
        results: async () => results,
        accepted: async () => ({}),
        retries: async () => [],
        copies: async () => ({}),
        damaged: async () => damaged,
      },
      plan: async () => ({ project: 'shop2', sources: [{ name: 'web.media', schedule: '0 3 * * *' }] }),
      own: { look: async () => ({ repository }) },
      nextRun: () => new Date(Date.now() + 3_600_000),
      runsUnderWay: async () => [],
      listKept: async () => ({ restores: [], stray: [] }),
      journals: '/nowhere',
    },
    io: { out: (text: string) => (out += text), paint: plainPaint, signal: new AbortController().signal },
    operands: [],
    options: {},
    json: false,
  } as unknown as Call;
  return { code: await status(call), out };
}

test('a lost spool hides neither the state of the sources nor that the last run is unknown', async () => {
  const { code, out } = await show();
  expect(code).toBe(0);
  expect(out).toContain('The last run is unknown: /spool is new or was full.');
  expect(out).not.toContain('No run yet');
  expect(out).toMatch(/web\.media +ok/);
  expect(out).toContain('copy /nas · no record of it yet');
  // Two of its scheduled times have passed.
  const old = { ...SNAPSHOT, end: '2026-01-01T03:00:00.000Z' };
  const late = await show({ manifests: [old] });
  expect(late.code).toBe(3);
  expect(late.out).toContain('not backed up at its last two scheduled times');
});

test('a project without a snapshot is shown with the other projects of the destination', async () => {
  expect(await show({ manifests: [] })).toMatchObject({ code: 4, out: expect.stringContaining('No run yet.\n') });
  const { code, out } = await show({ manifests: [], keys: ['shop/snapshots/a/manifest.json'] });
  expect(code).toBe(4);
  expect(out).toContain('--from /backups --project shop');
});

test('a source that failed is no success, although no run is remembered and no snapshot is there', async () => {
  const error = { code: 'PG_UNREACHABLE', message: 'the server does not respond' };
  const failed = { 'web.media': { run: '20261120T030000Z-aaaaaa', at: AT, status: 'failed', error } };
  const { code, out } = await show({ manifests: [], results: failed });
  expect(out).toContain('the server does not respond');
  expect(out).not.toContain('No run yet');
  expect(code).toBe(3);
});

test('a source whose last good snapshot has a damaged object is not well', async () => {
  expect((await show({ damaged: ['another'] })).code).toBe(0);
  for (const damaged of ['pack', 'index']) {
    const { code, out } = await show({ damaged: [damaged] });
    expect(code).toBe(3);
    expect(out).toContain('! web.media: `lifeboat check` found damage in its last good snapshot');
    expect(out).toContain('lifeboat backup web.media');
  }
});

test('a full spool is a problem, because a run that meets it leaves no report', async () => {
  // The file system of /proc never has free space.
  expect(await spoolProblems('/proc')).toMatchObject([{ code: 'SPOOL_FULL', severity: 'error' }]);
  expect(await spoolProblems('/nowhere')).toEqual([]);
});
