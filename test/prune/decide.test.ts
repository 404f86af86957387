import { describe, expect, test } from 'vitest';
import { planWithKeep } from '../../src/copy/plan.ts';
import { buildPlan } from '../../src/plan/job.ts';
import { decideKept } from '../../src/plan/keep.ts';
import type { Plan } from '../../src/plan/model.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { keepRules, keepSnapshot } from '../../src/prune/decide.ts';
import type { SourceStatus } from '../../src/run/source-status.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';

const DAY_MS = 86_400_000;

/** Returns a server's snapshot of a day, with the databases it holds and those that accepted no connections. */
function serverOf(day: number, stored: string[], closed: string[]): Manifest {
  const at = new Date(Date.UTC(2026, 0, day)).toISOString();
  const named = (names: string[], status: string) => names.map((name) => ({ name, status }));
  const databases = [...named(stored, 'ok'), ...named(closed, 'closed')];
  const sources = { 'db.postgres': { status: 'ok', databases } };
  return { id: `day-${day}`, sequence: day, start: at, end: at, trigger: 'schedule', sources } as unknown as Manifest;
}

test('the last snapshot that holds a database stays while the database accepts no connections', () => {
  const keptOf = (closed: string[]) => {
    const manifests = [
      serverOf(1, ['app', 'archive'], []),
      serverOf(2, ['app', 'archive'], []),
      ...Array.from({ length: 28 }, (_, i) => serverOf(i + 3, ['app'], closed)),
    ];
    const snapshots = manifests.map((manifest) => keepSnapshot(manifest, undefined));
    const rules = new Map([['db.postgres', { policy: { last: 1 } }]]);
    const now = Date.UTC(2026, 0, 30) + DAY_MS / 2;
    return decideKept(snapshots, rules, { zone: 'UTC', now }).flatMap(({ id, keep }) => (keep ? [id] : []));
  };
  expect(keptOf(['archive'])).toContain('day-2');
  expect(keptOf(['archive'])).not.toContain('day-1');
  // The data of a dropped database is no longer needed.
  expect(keptOf([])).not.toContain('day-2');
});

test('the history of a volume that is now stored under the name of another service stays as long as before', () => {
  const nameAt = (i: number, name: string) => {
    const at = new Date(Date.UTC(2026, 10 - i, 20 - i)).toISOString();
    const sources = { [name]: { status: 'ok', keep: '7d 12m 10y' } };
    const place = { id: `${name} ${i}`, sequence: 25 - i, start: at, end: at };
    return { ...place, trigger: 'schedule', sources } as unknown as Manifest;
  };
  const old = Array.from({ length: 25 }, (_, i) => nameAt(i, 'web.media'));
  const renamed = (times: number) => Array.from({ length: times }, (_, i) => nameAt(i - times, 'app.media'));
  const keptWith = (plan: Partial<Plan>, manifests = [...renamed(2), ...old]) => {
    const rules = keepRules({
      ...{ manifests, plan: { sources: [], ...plan } as unknown as Plan, keep: { daily: 3 } },
      ...{ listSourceStatuses: [], accepted: {} },
    });
    const snapshots = manifests.map((manifest) => keepSnapshot(manifest, undefined));
    const decisions = decideKept(snapshots, rules, { zone: 'UTC', now: Date.UTC(2027, 2, 28) });
    return decisions.filter((one) => one.keep && one.id.startsWith('web')).length;
  };
  const policy = { daily: 7, monthly: 12, yearly: 10 };
  const planned = keptWith({ sources: [{ name: 'web.media', keep: policy }] as unknown as Plan['sources'] });
  const shared = { 'web.media': 'app.media' };
  const sources = [{ name: 'app.media', keep: { daily: 7 } }] as unknown as Plan['sources'];
  expect(planned).toBeGreaterThan(12);
  expect(keptWith({ sources, shared })).toBe(planned);
  // The same when the present name is not planned, for example because its container is gone.
  expect(keptWith({ shared })).toBe(planned);
  expect(keptWith({})).toBe(1);
  // The first run under the new name removes nothing of the history. It may be a mistake, for example after the loss of
  // the spool.
  expect(keptWith({ sources, shared }, [...renamed(1), ...old])).toBe(25);
  expect(keptWith({ sources, shared }, old)).toBe(25);
});

describe('a keep label with a mistake', () => {
  const names = ['db.postgres'];
  const keep = { daily: 3 };
  const settings = parseSettings({ LIFEBOAT_KEEP: '3d' }, () => '');
  const planOf = (labels: Record<string, string>) => {
    const container = {
      ...{ id: 'c1', name: 'shop-db-1', project: 'shop', service: 'db', imageId: 'i', running: true },
      ...{ labels: { 'lifeboat.postgres': 'true', ...labels }, imageLabels: {}, env: {}, mounts: [] },
    };
    return buildPlan({ containers: [container], project: 'shop', settings, configFiles: false });
  };
  const keptOf = (plan: Plan, stored = '100d') => {
    const manifests = Array.from({ length: 60 }, (_, i) => serverOf(60 - i, ['app'], []));
    for (const { sources } of manifests) Object.assign(sources['db.postgres'] as object, { keep: stored });
    const listSourceStatuses = names.map((name) => ({ name, attention: null }) as unknown as SourceStatus);
    const rules = keepRules({ manifests, plan, keep, listSourceStatuses, accepted: {} });
    const snapshots = manifests.map((manifest) => keepSnapshot(manifest, undefined));
    const decisions = decideKept(snapshots, rules, { zone: 'UTC', now: Date.UTC(2026, 2, 1, 12) });
    return decisions.filter((one) => one.keep).length;
  };

  test('a source that is missing while labels cannot be read keeps all', () => {
    const plan = { ...planOf({}), sources: [] };
    expect(keptOf(plan, '5d')).toBe(5);
    expect(keptOf({ ...plan, unreadLabels: true }, '5d')).toBe(60);
  });

  test.each([
    ['lifeboat.keep', '100 d'],
    ['lifeboat.keep', ''],
    ['lifeboat.kep', '100d'],
    ['Lifeboat.Keep', '100d'],
    ['lifeboat.postgres.keep', '100d'],
    ['lifeboat.volumes.media.keep', '100 d'],
    ['lifeboat.retention', '100 days'],
    ['lifeboat.history', '100d'],
  ])('%s: "%s" lets nothing be pruned, at the destination and in copies', (label, value) => {
    const plan = planOf({ [label]: value });
    expect(plan.problems).toMatchObject([{ message: expect.stringContaining('no snapshot of it is pruned') }]);
    expect(keptOf(plan)).toBe(60);
    expect(keptOf(planWithKeep(plan, undefined))).toBe(60);
    // A copy with its own retention ignores the label.
    expect(keptOf(planWithKeep(plan, { daily: 5 }))).toBe(5);
  });

  test.each([{}, { 'lifeboat.keep': '3d' }, { 'lifeboat.databses': 'app' }, { 'lifeboat.scheduel': '0 3 * * *' }])(
    'the labels %j are unambiguous',
    (labels) => expect(keptOf(planOf(labels as Record<string, string>))).toBe(3),
  );
});
