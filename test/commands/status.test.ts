import { expect, test } from 'vitest';
import { spoolProblems } from '../../src/check/foresee.ts';
import type { Call } from '../../src/commands/call.ts';
import { status } from '../../src/commands/status.ts';
import type { Problem } from '../../src/plan/model.ts';
import { stoppedDatabase } from '../../src/plan/postgres.ts';
import { plainPaint } from '../../src/report/paint.ts';
import { encodePackList } from '../../src/store/objects/pack-list.ts';
import { makeReport } from '../report/fixtures.ts';

/** The command `status` where the state in the spool does not tell everything. */

const AT = new Date(Date.now() - 60_000).toISOString();
const object = (key: string) => ({ key, size: 1, sha256: '0'.repeat(64) });
const PACK = { ...object('pack'), id: '0'.repeat(32), plainSize: 1 };
const SNAPSHOT = {
  id: '20261120T030000Z-aaaaaa',
  end: AT,
  trigger: 'schedule',
  sequence: 1,
  sources: {
    'web.media': {
      ...{ kind: 'volume', status: 'ok', bytes: 1, files: 1, index: object('index') },
      packs: { ...object('list'), count: 1 },
    },
  },
};

interface Shown {
  manifests?: object[];
  keys?: string[];
  damaged?: string[];
  plan?: object;
  last?: object;
  results?: object;
  copies?: object;
  /** more of the only source in the plan */
  source?: object;
}

async function show({ manifests = [SNAPSHOT], keys = [], damaged = [], ...over }: Shown = {}) {
  const MEDIA = { name: 'web.media', schedule: '0 3 * * *' };
  async function* list() {
    for (const key of keys) yield { key, size: 1 };
  }
  const repository = {
    project: 'shop2',
    destination: { name: '/backups', list },
    snapshots: async () => ({ snapshots: manifests.map((manifest) => ({ manifest })), damaged: [] }),
    seen: [],
    readPackList: async () => encodePackList([PACK]),
  };
  let out = '';
  const call = {
    app: {
      project: 'shop2',
      destination: { name: '/backups' },
      settings: { timeZone: 'UTC', copies: [{ name: '/nas' }] },
      limitedPlaces: [],
      state: {
        directory: '/nowhere',
        lastRun: async () => over.last,
        results: async () => over.results ?? {},
        accepted: async () => ({}),
        retries: async () => [],
        copies: async () => over.copies ?? {},
        damaged: async () => damaged,
      },
      plan: async () => ({ project: 'shop2', sources: [{ ...MEDIA, ...over.source }], ...over.plan }),
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
  for (const damaged of ['pack', 'index', 'list']) {
    const { code, out } = await show({ damaged: [damaged] });
    expect(code).toBe(3);
    expect(out).toContain('! web.media: `lifeboat check` found damage in its last good snapshot');
    expect(out).toContain('lifeboat backup web.media');
    // One trouble is said once.
    expect(out.split('! web.media')).toHaveLength(2);
  }
});

test('a full spool is a problem, because a run that meets it leaves no report', async () => {
  // The file system of /proc never has free space.
  expect(await spoolProblems('/proc')).toMatchObject([{ code: 'SPOOL_FULL', severity: 'error' }]);
  expect(await spoolProblems('/nowhere')).toEqual([]);
});

test('status says a stopped database once, with the command that starts it', async () => {
  const stopped = { container: 'shop-db-1', start: 'docker compose start db' };
  const problem = { severity: 'error', subject: 'db', ...stoppedDatabase(stopped) };
  const before = { ...SNAPSHOT, sources: { 'db.postgres': SNAPSHOT.sources['web.media'] } };
  const last = makeReport({ status: 'partial', results: [], problems: [problem as Problem] });
  const { code, out } = await show({
    manifests: [before],
    last,
    plan: { sources: [], problems: [problem], stopped: { 'db.postgres': stopped } },
  });
  expect(code).toBe(3);
  expect(out.split('is not running')).toHaveLength(2);
  expect(out).toContain('hint: Start it with `docker compose start db`');
  // Without a snapshot of it, only the run says so.
  const never = await show({ last, plan: { stopped: { 'db.postgres': stopped } } });
  expect(never.out.split('is not running')).toHaveLength(2);
});

test('status shows what the server said, and what to do', async () => {
  const error = {
    ...{ code: 'PG_DUMP_FAILED', message: 'pg_dump of analytics in shop-db-1 failed' },
    ...{ cause: 'could not open file "base/16384/2619"', hint: 'Restore that table.' },
  };
  const entry = { ...SNAPSHOT.sources['web.media'], status: 'partial', error };
  const { out } = await show({
    manifests: [{ ...SNAPSHOT, sources: { 'web.media': entry } }],
    last: makeReport({
      status: 'failed',
      error: { code: 'DEST_FULL', message: 'full', cause: 'ENOSPC', hint: 'Free it.' },
    }),
    copies: {
      '/nas': {
        behindSince: AT,
        error: { code: 'DEST_UNREACHABLE', message: 'away', cause: 'ECONNREFUSED', hint: 'Look.' },
      },
    },
  });
  expect(out).toContain(
    '(PG_DUMP_FAILED)\n    cause: could not open file "base/16384/2619"\n    hint: Restore that table.',
  );
  expect(out).toContain('full (DEST_FULL)\n  cause: ENOSPC\n  hint: Free it.');
  expect(out).toMatch(/away \(DEST_UNREACHABLE\) · .*\n {4}cause: ECONNREFUSED\n {4}hint: Look\./);
});

test('a source that does not meet its target is no success, and status says since when, why, and what to do', async () => {
  const source = { kind: 'volume', rpoMs: 1_000, rtoMs: 3_600_000 };
  const end = new Date(Date.now() - 7_200_000).toISOString();
  const missed = await show({ manifests: [{ ...SNAPSHOT, end }], source });
  expect(missed.code).toBe(3);
  expect(missed.out).toContain(
    '! web.media: RPO 1s: not met for 1h: its last good snapshot is 2h old; the target is 1s (RPO_MISSED)',
  );
  expect(missed.out).toContain('next: `lifeboat backup web.media`');
  expect(missed.out).toContain('web.media: RTO 1h: not known, no restore or drill has measured it yet');
  const met = await show({ manifests: [{ ...SNAPSHOT, end }], source: { ...source, rpoMs: 86_400_000 } });
  expect(met.code).toBe(0);
  expect(met.out).toContain('web.media: RPO 1d: met (2h)');
});
