import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { choose, refuseContradiction } from '../../src/drill/choose.ts';
import type { DrillDeps, DrillRequest } from '../../src/drill/context.ts';
import type { Plan } from '../../src/plan/model.ts';
import { parsePointInTime } from '../../src/plan/values/point-in-time.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import type { Repository } from '../../src/store/repository/repository.ts';
import { WalBench } from '../store/wal/bench.ts';

const request = (more: Partial<DrillRequest> = {}): DrillRequest => ({
  ...{ sources: [], snapshot: 'latest', stack: false, trigger: 'schedule', unsigned: false },
  ...{ signal: new AbortController().signal, say: () => undefined, ...more },
});

/** A plan of sources by name; those that end in `.base` are base backups. */
const planOf = (...names: string[]): Plan => {
  const sources = names.map((name) => {
    const kind = name.endsWith('.base') ? 'base' : name.endsWith('.postgres') ? 'postgres' : 'volume';
    return { name, kind, ...(kind === 'base' ? { server: name.slice(0, -'.base'.length) } : {}), mount: {} };
  });
  return { project: 'shop', sources, problems: [] } as unknown as Plan;
};

/** A snapshot that holds sources by name, each with its status. */
function snapshot(sequence: number, sources: Record<string, 'ok' | 'failed'>, trigger = 'schedule'): Manifest {
  const end = new Date(Date.UTC(2026, 10, sequence)).toISOString();
  const entries = Object.entries(sources).map(([name, status]) => [
    name,
    {
      kind: 'postgres',
      status,
      ...(status === 'failed' ? { error: { code: 'PG_AUTH', message: 'no password' } } : {}),
    },
  ]);
  return { id: `s${sequence}`, sequence, end, trigger, sources: Object.fromEntries(entries) } as unknown as Manifest;
}

interface Given {
  plan: Plan;
  /** newest first */
  snapshots: Manifest[];
  accepted?: Record<string, string>;
  bench?: WalBench;
  /** why no snapshot can be read */
  bad?: LifeboatError;
}

async function chosen({ plan, snapshots, accepted = {}, bench, bad }: Given, more: Partial<DrillRequest> = {}) {
  const repository = {
    ...bench?.repository,
    snapshots: async () => ({ snapshots: snapshots.map((manifest) => ({ manifest })), damaged: [] }),
    resolve: async (id: string) => {
      if (bad) throw bad;
      const found = snapshots.filter((one) => one.id.startsWith(id));
      if (found.length !== 1) throw new LifeboatError('SNAPSHOT_UNKNOWN', id);
      return { manifest: found[0] };
    },
  } as unknown as Repository;
  const deps = { state: { accepted: async () => accepted }, remembered: async () => undefined } as unknown as DrillDeps;
  const all = await choose(deps, repository, plan, request(more));
  return all.map(({ source, server, outcome }) =>
    [source, ...(server ? [server] : []), ...(outcome ? [outcome.status] : [])].join(' '),
  );
}

describe('the sources of a drill', () => {
  test('are those of the plan', async () => {
    const snapshots = [snapshot(1, { 'db.postgres': 'ok', 'db.postgres.base': 'ok', 'web.media': 'ok' })];
    const plan = planOf('db.postgres', 'db.postgres.base', 'web.media');
    expect(await chosen({ plan, snapshots })).toEqual(['db.postgres', 'db.postgres.base db.postgres', 'web.media']);
  });

  test('are also those that the plan lacks, unless somebody has accepted that', async () => {
    const snapshots = [
      snapshot(3, { 'web.media': 'ok', 'db.postgres': 'failed' }),
      snapshot(2, { 'web.media': 'ok', 'db.postgres': 'ok', 'old.postgres': 'ok' }),
    ];
    const given = { plan: planOf('web.media'), snapshots, accepted: { 'old.postgres': '2026-11-20T00:00:00.000Z' } };
    expect(await chosen(given)).toEqual(['web.media', 'db.postgres']);
  });

  test('are unproven before their first backup', async () => {
    const snapshots = [snapshot(1, { 'web.media': 'ok' })];
    const given = { plan: planOf('web.media', 'new.postgres'), snapshots };
    expect(await chosen(given)).toEqual(['web.media', 'new.postgres unproven']);
    expect(await chosen(given, { sources: ['new.postgres'] })).toEqual(['new.postgres unproven']);
  });

  test('are those of the last weeks if there is no plan', async () => {
    const snapshots = [
      snapshot(60, { 'web.media': 'ok' }, 'safety'),
      snapshot(59, { 'db.postgres': 'ok' }, 'manual'),
      snapshot(58, { 'db.postgres': 'ok', 'web.media': 'failed' }),
      snapshot(1, { 'gone.postgres': 'ok' }),
    ];
    expect(await chosen({ plan: planOf(), snapshots })).toEqual(['db.postgres', 'web.media']);
    await expect(chosen({ plan: planOf(), snapshots: [] })).rejects.toMatchObject({ code: 'SOURCE_UNKNOWN' });
  });

  test('of a named snapshot include those that could not be stored, as failed', async () => {
    const snapshots = [snapshot(1, { 'web.media': 'ok', 'db.postgres': 'failed' })];
    const given = { plan: planOf('web.media', 'db.postgres'), snapshots };
    expect(await chosen(given, { snapshot: 's1' })).toEqual(['web.media', 'db.postgres failed']);
  });

  test('of a named snapshot that is bad itself fail', async () => {
    const given = { plan: planOf('db.postgres', 'db.postgres.base', 'web.media'), snapshots: [] };
    const bad = new LifeboatError('SIGNATURE_WRONG', 'somebody changed it');
    expect(await chosen({ ...given, bad }, { snapshot: 's1' })).toEqual(['db.postgres failed', 'web.media failed']);
    expect(await chosen({ ...given, bad }, { snapshot: 's1', sources: ['web.media'] })).toEqual(['web.media failed']);
    const away = new LifeboatError('DEST_UNREACHABLE', 'no answer');
    await expect(chosen({ ...given, bad: away }, { snapshot: 's1' })).rejects.toBe(away);
  });

  test.each<[string, Partial<DrillRequest>, string]>([
    ['a misspelt source', { sources: ['db.postgers'] }, 'SOURCE_UNKNOWN'],
    ['an ambiguous snapshot', { snapshot: 's', sources: ['web.media'] }, 'SNAPSHOT_UNKNOWN'],
    ['a source that the snapshot lacks', { snapshot: 's1', sources: ['db.postgres'] }, 'SOURCE_UNKNOWN'],
  ])('are refused before anything is recorded: %s', async (_, more, code) => {
    const snapshots = [snapshot(2, { 'db.postgres': 'ok' }), snapshot(1, { 'web.media': 'ok' })];
    await expect(chosen({ plan: planOf('web.media', 'db.postgres'), snapshots }, more)).rejects.toMatchObject({ code });
  });
});

describe('the servers of a drill with a point in time', () => {
  const at = (text: string) => ({
    aim: { target: parsePointInTime(text) as NonNullable<DrillRequest['aim']>['target'] },
  });
  const given = async () => {
    const bench = new WalBench();
    const { sources } = bench.base(2);
    await bench.store(1, 3);
    const base = { ...snapshot(1, { 'web.media': 'ok' }), sources: { ...sources } } as Manifest;
    return { bench, plan: planOf('db.postgres', 'db.postgres.base', 'web.media'), snapshots: [base] };
  };
  const inside = at('2026-11-20T03:00:00Z');

  test('are those with base backups, each once', async () => {
    expect(await chosen(await given(), inside)).toEqual(['db.postgres db.postgres']);
    const both = { sources: ['db.postgres', 'db.postgres.base'], ...inside };
    expect(await chosen(await given(), both)).toEqual(['db.postgres db.postgres']);
  });

  test('are refused for a point outside of every window, and for a volume', async () => {
    await expect(chosen(await given(), at('2026-11-21T03:00:00Z'))).rejects.toMatchObject({ code: 'PITR_TIME' });
    await expect(chosen(await given(), { sources: ['web.media'], ...inside })).rejects.toMatchObject({ code: 'USAGE' });
  });

  test('are drilled if damage may be why the point cannot be reached', async () => {
    const one = await given();
    one.bench.objects.delete(
      [...one.bench.objects.keys()].find((key) => key.includes('000000010000000000000002')) as string,
    );
    expect(await chosen(one, inside)).toEqual(['db.postgres db.postgres']);
  });

  test('and a snapshot contradict each other', () => {
    expect(() => refuseContradiction(request({ ...inside, snapshot: 's1' }))).toThrow(/--snapshot/);
    expect(() => refuseContradiction(request({ ...inside, stack: true }))).toThrow(/--stack/);
    expect(() => refuseContradiction(request(inside))).not.toThrow();
  });
});
