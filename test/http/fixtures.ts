import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { silentLog } from '../../src/base/log.ts';
import { createRoutes } from '../../src/http/app.ts';
import type { HttpDeps } from '../../src/http/deps.ts';
import type { Facts, FactsSource } from '../../src/http/facts.ts';
import type { Overview } from '../../src/overview/overview.ts';
import type { PlaceSize } from '../../src/overview/place-size.ts';
import type { KeepPolicy, Plan, PlannedSource } from '../../src/plan/model.ts';
import type { RanRun, RanSource } from '../../src/record/run-log.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import { listSourceStatuses } from '../../src/run/source-status.ts';
import { encodeIndexEntry } from '../../src/store/filesystem/index-file.ts';
import { entryName, pathFromText } from '../../src/store/filesystem/path.ts';
import type { Manifest, ManifestSource } from '../../src/store/objects/manifest.ts';

/** A shop in its second month: what pages and metrics show of it. Everything is computed from {@link NOW}. */

export const NOW = new Date('2026-11-28T05:12:00Z');
export const KEEP: KeepPolicy = { daily: 7, weekly: 4, monthly: 12 };

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const DAY_MS = 86_400_000;
const SCHEDULE = '0 3 * * *';

const object = (key: string) => ({ key, size: 1200, sha256: '0'.repeat(64) });

/** Night `n` before {@link NOW}; 0 is the last one. */
const night = (n: number) => new Date(Date.UTC(2026, 10, 28, 2) - n * DAY_MS);
const idOf = (n: number) =>
  `${night(n).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z-4f1c${String(n).padStart(2, '0')}`;

/** The nights of which retention has kept the snapshots. */
const KEPT = [0, 1, 2, 3, 4, 5, 6, 13, 20, 58];
const PARTIAL = new Set([7]);
const FAILED = new Set([15]);

function plannedOf(): PlannedSource[] {
  const base = {
    ...{ project: 'shop', containerId: 'c'.repeat(64), schedule: SCHEDULE, keep: KEEP },
  };
  const postgres = {
    ...{ ...base, service: 'db', containerName: 'shop-db-1', imageId: 'sha256:1', excludeDatabases: [] },
    ...{ excludeTableData: [], user: 'shop', database: 'shop', port: 5432, dataDirectories: [], mounts: [] },
  };
  return [
    { ...base, service: '', containerName: '', name: 'config', kind: 'files', root: '/config', exclude: [] },
    { ...postgres, name: 'db.postgres', kind: 'postgres' },
    {
      ...postgres,
      name: 'db.postgres.base',
      kind: 'base',
      server: 'db.postgres',
      windowMs: 7 * DAY_MS,
      schedule: '30 4 * * 0',
    },
    {
      ...{ ...base, service: 'web', containerName: 'shop-web-1', name: 'web.media', kind: 'volume' as const },
      mount: { type: 'volume', name: 'shop_media', source: '/v', destination: '/app/media', writable: true },
      ...{ include: [], exclude: [], stop: [] },
    },
  ];
}

const databaseBytes = (n: number) => Math.round(1.94 * GIB - n * 17 * MIB - Math.sin(n) * 6 * MIB);
const mediaBytes = (n: number) => Math.round(18.2 * GIB - n * 41 * MIB);
const durationOf = (n: number) => 13_000 + Math.round(Math.abs(Math.sin(n * 1.7)) * 4000) + (n === 12 ? 27_000 : 0);

function entriesOf(n: number): Record<string, ManifestSource> {
  const common = { status: 'ok' as const, warnings: [], skipped: {}, newFiles: 4 };
  const documents = (name: string) => ({
    index: object(`shop/snapshots/${idOf(n)}/${name}.index.ndjson.zst`),
    packs: { ...object(`shop/snapshots/${idOf(n)}/${name}.packs.ndjson.zst`), count: 12 },
  });
  const rows = 1_523_118 - n * 940;
  const entries: Record<string, ManifestSource> = {
    config: {
      ...{ ...common, ...documents('config'), kind: 'files', files: 3, bytes: 12_400, newBytes: 0, newFiles: 0 },
      summary: '3 files',
    },
    'db.postgres': {
      ...{ ...common, ...documents('db.postgres'), kind: 'postgres', files: 64, bytes: databaseBytes(n) },
      ...{ newBytes: 158 * MIB, rows, facts: object(`shop/snapshots/${idOf(n)}/db.postgres.facts.json.zst`) },
      summary: `2 databases, 61 tables, ${rows.toLocaleString('en-US')} rows`,
      databases: [
        { name: 'analytics', status: 'ok' },
        { name: 'app', status: 'ok' },
      ],
    },
    'web.media': {
      ...{ ...common, ...documents('web.media'), kind: 'volume', files: 20_114 - n * 31, bytes: mediaBytes(n) },
      ...{ newBytes: 3.1 * MIB, newFiles: 17, summary: `${(20_114 - n * 31).toLocaleString('en-US')} files` },
    },
  };
  if (n === 6 || n === 13 || n === 20) {
    entries['db.postgres.base'] = {
      ...{
        ...common,
        ...documents('db.postgres.base'),
        kind: 'base',
        files: 1204,
        bytes: 2.4 * GIB,
        newBytes: 310 * MIB,
      },
      summary: '1,204 files of the server',
    };
  }
  return entries;
}

function manifestOf(n: number): Manifest {
  return {
    ...{
      format: 1,
      id: idOf(n),
      project: 'shop',
      sequence: 100 - n,
      previous: null,
      trigger: 'schedule',
      agentVersion: '1.0.0',
    },
    start: night(n).toISOString(),
    end: new Date(night(n).getTime() + durationOf(n) + 29_000).toISOString(),
    status: 'ok',
    sources: entriesOf(n),
  };
}

function runOf(n: number): RanRun {
  const start = night(n).toISOString();
  const end = new Date(night(n).getTime() + durationOf(n) + 29_000).toISOString();
  const status = FAILED.has(n) ? 'failed' : PARTIAL.has(n) ? 'partial' : 'ok';
  const ran = (name: string, durationMs: number): RanSource => {
    const { bytes = 0, newBytes = 0 } = entriesOf(n)[name] ?? {};
    if (FAILED.has(n)) return { status: 'failed', durationMs: 0, bytes: 0, newBytes: 0, code: 'DEST_UNREACHABLE' };
    const partial = PARTIAL.has(n) && name === 'web.media';
    return {
      status: partial ? 'partial' : 'ok',
      durationMs,
      bytes,
      newBytes,
      ...(partial ? { code: 'TREE_UNREADABLE' as const } : {}),
    };
  };
  const sources = {
    config: ran('config', 300),
    'db.postgres': ran('db.postgres', durationOf(n)),
    'web.media': ran('web.media', 26_000 + (n % 5) * 900),
    ...(n === 6 || n === 13 || n === 20 ? { 'db.postgres.base': ran('db.postgres.base', 61_000) } : {}),
  };
  return { id: idOf(n), trigger: 'schedule', start, end, status, sources };
}

function placesOf(): PlaceSize[] {
  const sample = (at: string, share: number) => ({
    ...{ at, objects: 4211, bytes: Math.round(24.3 * GIB * share) },
    sources: {
      config: 120_000,
      'db.postgres': Math.round(3.9 * GIB * share),
      'db.postgres.base': Math.round(2.8 * GIB * share ** 2),
      'web.media': Math.round(17.5 * GIB * share),
    },
  });
  const [before, now] = [sample('2026-10-28T02:01:00.000Z', 0.93), sample('2026-11-28T02:01:00.000Z', 1)];
  return [
    { name: '/backups', before, now },
    { name: 's3://acme-backups/shop', before, now, cost: 0.6 },
  ];
}

function drillsOf(): DrillReport[] {
  const common = {
    place: '/backups',
    snapshot: idOf(2),
    heldAt: night(2).toISOString(),
    ageMs: 4 * 3_600_000,
    notes: [],
  };
  const end = '2026-11-26T06:01:12.000Z';
  return [
    {
      ...{
        id: '20261126T060000Z-d111aa',
        project: 'shop',
        trigger: 'schedule',
        start: '2026-11-26T06:00:00.000Z',
        end,
      },
      ...{ status: 'ok', agentVersion: '1.0.0', unproven: [] },
      results: [
        {
          ...{ ...common, source: 'db.postgres', kind: 'postgres', status: 'ok', version: '17.4', restoreMs: 38_000 },
          ...{ steps: [{ name: 'restore', durationMs: 38_000 }], summary: '61 tables, 1,521,238 rows equal' },
          image: { id: 'sha256:9d1', digest: 'postgres@sha256:9d1f', recorded: true },
          checks: [
            { name: 'rows', of: 'app', result: 'ok', expected: 1_402_003, found: 1_402_003 },
            { name: 'indexes', of: 'app', result: 'ok', expected: 88, found: 88 },
            { name: 'amcheck of indexes', of: 'app', result: 'skipped', detail: 'the image has no amcheck' },
            { name: 'assert orders', of: 'app', result: 'ok' },
          ],
        },
        {
          ...{ ...common, source: 'db.postgres.base', kind: 'postgres', status: 'ok', restoreMs: 51_000 },
          ...{ steps: [], summary: 'recovered to 2026-11-25 17:31:06Z', checks: [] },
        },
        {
          ...{ ...common, source: 'web.media', kind: 'volume', status: 'ok', restoreMs: 12_000 },
          ...{ steps: [], summary: '20,052 files, 18.1 GiB equal', checks: [] },
        },
        {
          ...{ ...common, source: 'config', kind: 'files', status: 'ok', restoreMs: 400 },
          ...{ steps: [], summary: '3 files, 12.1 KiB equal', checks: [] },
        },
      ],
    },
  ];
}

/** Makes the facts of the shop. `over`: members of the overview that differ. */
export function makeFacts(over: Partial<Overview> = {}): Facts {
  const manifests = over.found?.manifests ?? KEPT.map(manifestOf);
  const plan: Plan = over.plan ?? { project: 'shop', sources: plannedOf(), problems: [] };
  const zone = 'Europe/Berlin';
  const to = new Date(NOW.getTime() - 4000).toISOString();
  const windows = [
    {
      ...{ name: 'db.postgres', holes: [], problems: [], copies: {} },
      windows: [
        {
          ...{ systemId: '7', timeline: 1, from: '2026-11-21T02:02:11.000Z', to, toLsn: '3/4F000148' },
          bases: [],
          forks: [],
        },
      ],
      receiver: {
        ...{ systemId: '7', slot: 'lifeboat_shop', containerName: 'shop-db-1', state: 'receiving' as const },
        ...{ since: '2026-11-02T10:00:00.000Z', at: to, written: '3/4F000148', stored: '3/4F000060', kept: 4096 },
        confirmed: { timeline: 1, lsn: '3/4F000060', at: to },
      },
    },
  ];
  const overview: Overview = {
    ...{ at: NOW, project: 'shop', zone, plan, underWay: [], destination: '/backups' },
    sources: listSourceStatuses({ plan, manifests, results: {}, accepted: {}, zone, now: NOW }),
    found: { manifests, damaged: [], objects: [] },
    copies: [
      { name: 's3://acme-backups/shop', complete: '2026-11-28T02:01:30.000Z', made: '2026-09-30T02:00:00.000Z' },
    ],
    windows,
    places: placesOf(),
    targets: [],
    ...{ kept: { restores: [], stray: [] }, held: [], problems: [] },
    nextRun: '2026-11-29T02:00:00.000Z',
    ...over,
  };
  const runs = Array.from({ length: 31 }, (_, i) => runOf(30 - i));
  const pins = new Map([[idOf(20), { reason: 'before deploy 4.2', at: '2026-11-08T12:00:00.000Z' }]]);
  return { overview, runs, pins, drills: drillsOf() };
}

/** A name that would be markup, if it were not escaped. */
export const HOSTILE_FILE = '<img src=x onerror=alert(1)>.jpg';

/** Lets the routes read the content of every snapshot. `directory`: of the state; gets an index of files. */
export function readableSnapshots(directory: string): Partial<HttpDeps> {
  const names = ['', 'photos', `photos/${HOSTILE_FILE}`, 'photos/größe 1.jpg', 'readme.txt'];
  const lines = names.map((name) => {
    const at = pathFromText(name);
    const isFile = name.includes('.');
    const content = { size: 48_211, sha256: '0'.repeat(64), pack: '1'.repeat(32), entry: entryName(at) };
    return encodeIndexEntry({
      ...{ path: at, mode: 0o644, uid: 0, gid: 0, mtime: 1_795_000_000_000_000_000n },
      ...(isFile ? { type: 'file', ...content } : { type: 'directory' }),
    });
  });
  const index = path.join(directory, 'index.ndjson');
  writeFileSync(index, lines.join(''));
  const table = (name: string, rows: number) => ({ schema: 'public', name, rows, exact: true, bytes: rows * 90 });
  const tables = [table('orders', 1_402_003), table('customers', 88_120), table('reviews', 0)];
  const databases = [{ name: 'app', size: 1.9 * GIB, tables }];
  return {
    state: { directory, accepted: async () => ({}), cachedIndex: async () => index } as never,
    own: {
      look: async () => ({ repository: { readFacts: async () => ({ server: { version: '17.4' }, databases }) } }),
    } as never,
  };
}

/** What the routes of {@link serve} read, besides the facts. */
export interface ServeOptions {
  facts?: Facts;
  /** members of the source of facts that differ */
  source?: Partial<FactsSource>;
  http?: HttpDeps['settings']['http'];
  over?: Partial<HttpDeps>;
}

/** Creates the routes of a shop that is not running, over the given facts. */
export function serve({ facts = makeFacts(), source = {}, http, over = {} }: ServeOptions = {}) {
  const state = { directory: '/nowhere', accepted: async () => ({}), cachedIndex: async () => undefined };
  const deps = {
    ...{ project: 'shop', version: '1.0.0', log: silentLog, runs: '/nowhere/runs', journals: '/nowhere/journals' },
    ...{ found: true, otherRepository: false, destination: { name: '/backups' }, state },
    settings: { timeZone: 'Europe/Berlin', copies: [], keep: KEEP, schedule: SCHEDULE, ...(http ? { http } : {}) },
    engine: { ping: async () => undefined },
    own: { look: async () => ({}) },
    runsUnderWay: async () => [],
    listKept: async () => ({ restores: [], stray: [] }),
    plan: async () => facts.overview.plan,
    nextRun: () => NOW,
    now: () => NOW,
    sinceTick: () => 0,
    ...over,
  } as unknown as HttpDeps;
  const all = { peek: () => facts, get: async () => facts, age: () => 0, problem: undefined, ...source };
  return createRoutes(deps, new AbortController().signal, all);
}
