import { expect, test } from 'vitest';
import { missingImages, windowLines } from '../../src/commands/windows.ts';
import { refusal } from '../../src/docker/engine-errors.ts';
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
  expect(windowLines(source, { now }).map((line) => line.replace(/^.*\), /, ''))).toEqual([
    'db.postgres',
    'timeline 1',
    'timeline 2, the same as 1 up to 2026-11-20 13:59:58Z',
    'timeline 3',
  ]);
});

test('an image of base backups that is not here is named once, with the last of them', async () => {
  const base = (image: string, day: string, imageDigest?: string): Window['bases'][number] => ({
    ...{ snapshot: day, systemId: '7', timeline: 1, startLsn: '0/1000028', stopLsn: '0/1000100' },
    ...{ stopTime: `2026-11-${day}T04:30:00.000Z`, image, ...(imageDigest === undefined ? {} : { imageDigest }) },
  });
  const digest = 'postgres@sha256:16';
  const bases = [base('sha256:1', '12', digest), base('sha256:1', '13', digest), base('sha256:2', '14')];
  const windows = [
    { ...window(1, '2026-11-14T15:00:00.000Z', []), bases },
    { ...window(1, '2026-11-20T15:00:00.000Z', []), bases: [base('sha256:3', '18', 'postgres@sha256:17')] },
  ];
  const here = new Set(['sha256:2', 'postgres@sha256:17']);
  const inspectImage = async (name: string) => {
    if (!here.has(name)) throw refusal(404, 'no such image', { method: 'GET', path: `/images/${name}/json` });
    return {} as never;
  };
  const missing = await missingImages({ inspectImage }, [{ windows }]);
  expect(missing).toEqual(new Set([digest]));
  const source = { name: 'db.postgres', windows, holes: [], receiver: null, copies: {}, problems: [] };
  expect(windowLines(source, { now, missing }).slice(3)).toEqual([
    expect.stringMatching(/^ {2}! the image of base backups up to 2026-11-13 04:30:00Z is not on this engine.*16$/),
  ]);
  const refused = async () => Promise.reject(refusal(403, 'forbidden', { method: 'GET', path: '/images' }));
  expect(await missingImages({ inspectImage: refused }, [{ windows }])).toEqual(new Set());
});
