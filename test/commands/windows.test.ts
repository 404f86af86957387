import { expect, test } from 'vitest';
import { windowLines } from '../../src/commands/windows.ts';
import type { Window } from '../../src/store/wal/windows.ts';

const now = new Date('2026-11-20T16:00:00Z');
const window = (timeline: number, to: string, forks: Window['forks']): Window => ({
  ...{ systemId: '7', timeline, from: '2026-11-20T03:00:00.000Z', to, toLsn: '0/9000000', bases: [], forks },
});

test('a window says up to which time its timeline is the same as earlier ones', () => {
  const windows = [
    window(1, '2026-11-20T15:00:00.000Z', [{ timeline: 2, lsn: '0/5000000', time: '2026-11-20T13:59:58.250Z' }]),
    window(2, '2026-11-20T16:00:00.000Z', [{ timeline: 1, lsn: '0/5000000', time: '2026-11-20T13:59:58.250Z' }]),
    window(3, '2026-11-20T16:00:00.000Z', [{ timeline: 1, lsn: '0/100' }]),
  ];
  const source = { name: 'db.postgres', windows, holes: [], receiver: null, copies: {}, problems: [] };
  expect(windowLines(source, now).map((line) => line.replace(/^.*\), /, ''))).toEqual([
    'db.postgres',
    'timeline 1',
    'timeline 2, the same as 1 up to 2026-11-20 13:59:58Z',
    'timeline 3',
  ]);
});
