import { expect, test } from 'vitest';
import { decideKept } from '../../src/plan/keep.ts';
import { keepSnapshot } from '../../src/prune/decide.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';

const DAY_MS = 86_400_000;

/** A snapshot of a server, by day, with the databases that it holds and those that nobody could connect to. */
function serverOf(day: number, stored: string[], closed: string[]): Manifest {
  const at = new Date(Date.UTC(2026, 0, day)).toISOString();
  const named = (names: string[], status: string) => names.map((name) => ({ name, status }));
  const databases = [...named(stored, 'ok'), ...named(closed, 'closed')];
  const sources = { 'db.postgres': { status: 'ok', databases } };
  return { id: `day-${day}`, sequence: day, start: at, end: at, trigger: 'schedule', sources } as unknown as Manifest;
}

test('the last snapshot that holds a database stays while nobody can connect to that', () => {
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
  // One that was dropped needs nobody's data any more.
  expect(keptOf([])).not.toContain('day-2');
});
