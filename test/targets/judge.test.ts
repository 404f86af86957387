import { describe, expect, test } from 'vitest';
import type { BaseSource, PlannedSource, VolumeSource } from '../../src/plan/model.ts';
import { judgeTargets, type Known, targetText } from '../../src/targets/judge.ts';
import type { ReceiverState } from '../../src/wal/receiver-state.ts';

const NOW = new Date('2026-11-20T12:00:00Z');
const HOUR = 3_600_000;
const ago = (ms: number) => new Date(NOW.getTime() - ms).toISOString();
const volume = (targets: Pick<PlannedSource, 'rpoMs' | 'rtoMs'>) => ({ kind: 'volume', ...targets }) as VolumeSource;
const judge = (source: PlannedSource, known: Partial<Known>) => judgeTargets(source, { seen: ago(0), ...known }, NOW);

describe('the target for lost work, by snapshots', () => {
  const source = volume({ rpoMs: 24 * HOUR });

  test.each<[string, Partial<Known>, object]>([
    ['is met by a young snapshot', { lastGood: ago(23 * HOUR) }, { met: true, measuredMs: 23 * HOUR }],
    ['is met to the very end', { lastGood: ago(24 * HOUR) }, { met: true }],
    [
      'is not met by an old one, since the target was reached',
      { lastGood: ago(26 * HOUR) },
      { met: false, since: ago(2 * HOUR), why: 'its last good snapshot is 26h old; the target is 1d' },
    ],
    ['is not known of a new source', { seen: ago(HOUR) }, { met: null }],
    ['is not met without any snapshot', { seen: ago(25 * HOUR) }, { met: false, since: ago(HOUR) }],
    ['is met by a snapshot that a wrong clock dated ahead', { lastGood: ago(-HOUR) }, { met: true, measuredMs: 0 }],
  ])('%s', (_name, known, expected) => {
    expect(judge(source, known)).toEqual([expect.objectContaining({ kind: 'rpo', by: 'snapshots', ...expected })]);
  });
});

describe('the target for lost work, by WAL', () => {
  const source = { kind: 'postgres', rpoMs: 60_000 } as PlannedSource;
  const receiver = (more: Partial<ReceiverState>): ReceiverState => ({
    ...{ slot: 's', containerName: 'db', state: 'receiving', since: ago(HOUR), at: ago(5_000) },
    confirmed: { timeline: 1, lsn: '0/1', at: ago(10_000) },
    ...more,
  });

  test('is measured by the clock of the server while the receiver looks at it', () => {
    const known = { receiver: receiver({}), hasBase: true, lastGood: ago(20 * HOUR) };
    expect(judge(source, known)).toMatchObject([{ by: 'wal', met: true, measuredMs: 5_000 }]);
    // The clock of the server is three minutes behind the one of the agent.
    const behind = receiver({ at: ago(180_000 - 130_000), confirmed: { timeline: 1, lsn: '0/1', at: ago(60_000) } });
    expect(judge(source, { ...known, receiver: behind })).toMatchObject([{ met: true, measuredMs: 10_000 }]);
  });

  test('is not met while WAL is not stored, and says why', () => {
    const error = { code: 'DEST_UNREACHABLE', message: 'no answer' } as const;
    const known = {
      receiver: receiver({ state: 'failed', error, confirmed: { timeline: 1, lsn: '0/1', at: ago(180_000) } }),
    };
    expect(judge(source, { ...known, hasBase: true })).toMatchObject([
      {
        ...{ met: false, since: ago(120_000), measuredMs: 180_000 },
        why: 'the stored WAL is 3m behind; the target is 1m: no answer (DEST_UNREACHABLE)',
      },
    ]);
  });

  test('is met by a snapshot that is newer than the stored WAL', () => {
    const confirmed = { timeline: 1, lsn: '0/1', at: ago(26 * HOUR) } as const;
    const known = { receiver: receiver({ state: 'failed', confirmed }), hasBase: true, lastGood: ago(3 * HOUR) };
    const daily = { kind: 'postgres', rpoMs: 24 * HOUR } as PlannedSource;
    expect(judge(daily, known)).toMatchObject([{ by: 'snapshots', met: true, measuredMs: 3 * HOUR }]);
    expect(judge(daily, { ...known, lastGood: ago(27 * HOUR) })).toMatchObject([{ by: 'wal', met: false }]);
  });

  test('counts the age of a receiver that has stopped to report', () => {
    const silent = receiver({ at: ago(HOUR), confirmed: { timeline: 1, lsn: '0/1', at: ago(HOUR) } });
    expect(judge(source, { receiver: silent, hasBase: true })).toMatchObject([{ met: false, measuredMs: HOUR }]);
  });

  test.each<[string, Partial<Known>]>([
    ['no base backup', { receiver: receiver({}), hasBase: false }],
    ['no confirmed WAL', { receiver: receiver({ confirmed: undefined! }), hasBase: true }],
    ['no receiver', { hasBase: true }],
  ])('is that of snapshots with %s', (_name, known) => {
    expect(judge(source, { ...known, lastGood: ago(HOUR) })).toMatchObject([{ by: 'snapshots', met: false }]);
  });
});

describe('the target for recovery', () => {
  const source = volume({ rtoMs: HOUR });
  const measured = { id: 'r1', at: ago(48 * HOUR), durationMs: 30_000, by: 'drill' } as const;

  test('compares the last measured restore', () => {
    expect(judge(source, { measured })).toEqual([{ kind: 'rto', targetMs: HOUR, measuredMs: 30_000, met: true }]);
    expect(judge(source, { measured: { ...measured, durationMs: 2 * HOUR } })).toMatchObject([
      { met: false, since: measured.at, why: expect.stringMatching(/^the last drill, .*, took 2h; the target is 1h$/) },
    ]);
  });

  test('is not known without a measurement', () => {
    expect(judge(source, {})).toMatchObject([{ met: null }]);
  });
});

test('base backups have no target of their own, and a source without targets has no state', () => {
  expect(judge({ kind: 'base', rpoMs: 1, rtoMs: 1 } as BaseSource, {})).toEqual([]);
  expect(judge(volume({}), {})).toEqual([]);
});

test('a target is one line', () => {
  const source = volume({ rpoMs: 24 * HOUR, rtoMs: HOUR });
  const lines = (known: Partial<Known>) => judge(source, known).map((one) => targetText(one, NOW));
  expect(lines({ lastGood: ago(26 * HOUR) })).toEqual([
    'RPO 1d: not met for 2h: its last good snapshot is 26h old; the target is 1d',
    'RTO 1h: not known, no restore or drill has measured it yet',
  ]);
  expect(lines({ lastGood: ago(3 * HOUR) })[0]).toBe('RPO 1d: met (3h)');
});
