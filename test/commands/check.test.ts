import { expect, test } from 'vitest';
import type { CheckResult } from '../../src/check/check.ts';
import { exitStatusOf, keyLines, repairLines, restorableLines } from '../../src/commands/check.ts';

const well = { snapshots: 1, damaged: [], unread: [], records: [], manifests: [], usable: true };
const error = { code: 'OBJECT_DAMAGED', message: 'damaged' } as const;
const stopped = { code: 'DEST_UNREACHABLE', message: 'away' } as const;

test.each<[string, object, number, number]>([
  ['everything is complete', {}, 0, 0],
  ['a rule of the bucket would remove backups', {}, 1, 3],
  ['a lease is damaged', { records: [{ key: 'a', error }] }, 0, 3],
  ['an object is damaged, and something can be restored', { damaged: [{ key: 'a', error }] }, 0, 3],
  ['nothing can be restored', { damaged: [{ key: 'a', error }], usable: false }, 0, 1],
  ['the destination does not answer', { stopped }, 0, 1],
  ['the destination does not answer, and a rule is harmful', { stopped }, 1, 1],
  ['it was interrupted', { stopped: { ...stopped, code: 'INTERRUPTED' }, damaged: [{ key: 'a', error }] }, 0, 130],
  ['the repository is empty', { snapshots: 0 }, 1, 4],
])('the exit status when %s', (_, over, rules, status) => {
  expect(exitStatusOf({ ...well, ...over } as unknown as CheckResult, rules)).toBe(status);
});

test('a partial snapshot is not called complete', () => {
  const restorable = { 'db.postgres': 'new', 'web.media': 'new', 'lite.lite': 'new', config: null };
  const whole = { 'db.postgres': 'old', 'web.media': 'new', 'lite.lite': null, config: null };
  expect(restorableLines({ restorable, whole })).toEqual([
    '  db.postgres: newest whole snapshot is old; newest (partly failed) snapshot is new',
    '  web.media: newest whole snapshot is new',
    '  lite.lite: no whole snapshot is left; newest (partly failed) snapshot is new',
    '  config: no whole snapshot is left',
  ]);
});

test('lost snapshots come back from a copy, and damaged content with the next backup', () => {
  const lost = { snapshot: 'a', error: { ...error, code: 'CHAIN_BROKEN' as const } };
  const copies = [{ name: '/nas' }, { name: 's3://acme/shop' }];
  const back =
    'To bring back lost snapshots that a copy has: `lifeboat copy --from /nas` or `lifeboat copy --from s3://acme/shop`.';
  const again = expect.stringContaining('Back up now');
  const none = { affected: [], whole: {} };
  expect(repairLines({ ...none, damaged: [], manifests: [lost] }, copies)).toEqual([back]);
  expect(repairLines({ ...none, damaged: [], manifests: [lost] }, [])).toEqual([]);
  expect(repairLines({ ...none, damaged: [], manifests: [lost, { snapshot: 'b', error }] }, copies)).toEqual([
    back,
    again,
  ]);
  const damaged = [{ key: 'a', error }];
  const replace = back.replace('lost snapshots', 'damaged objects');
  expect(repairLines({ ...none, damaged, manifests: [] }, copies)).toEqual([replace, again]);
  expect(repairLines({ ...none, damaged, manifests: [] }, [])).toEqual([again]);
});

test('the name of a copy is quoted in the command', () => {
  const lost = { snapshot: 'a', error: { ...error, code: 'CHAIN_BROKEN' as const } };
  const result = { affected: [], whole: {}, damaged: [], manifests: [lost] };
  expect(repairLines(result, [{ name: 's3://b/p (AWS)' }])).toEqual([
    "To bring back lost snapshots that a copy has: `lifeboat copy --from 's3://b/p (AWS)'`.",
  ]);
});

test('a gap next to snapshots that another key signed may be one of them, so nothing is brought back', () => {
  const lost = { snapshot: 'a', error: { ...error, code: 'CHAIN_BROKEN' as const } };
  const other = { snapshot: 'b', error: { ...error, code: 'SIGNATURE_KEY' as const } };
  const none = { affected: [], whole: {}, damaged: [] };
  const key = expect.stringContaining('Add that key');
  expect(repairLines({ ...none, manifests: [other] }, [{ name: '/nas' }])).toEqual([]);
  expect(repairLines({ ...none, manifests: [other, lost] }, [{ name: '/nas' }])).toEqual([key]);
  const more = { snapshot: 'c', error };
  expect(repairLines({ ...none, manifests: [other, lost, more] }, [{ name: '/nas' }])).toEqual([
    key,
    expect.stringContaining('Back up now'),
  ]);
});

test('after the next backup, check no longer asks for one', () => {
  const affected = [{ snapshot: '20261119T030000Z-a', source: 'web.media', extent: 'whole', files: 1, examples: [] }];
  const lines = (whole: Record<string, string | null>) =>
    repairLines({ damaged: [{ key: 'a', error }], manifests: [], affected, whole } as never, []);
  expect(lines({ 'web.media': '20261120T030000Z-a' })).toEqual([
    expect.stringContaining('hold the damaged content again'),
  ]);
  for (const whole of ['20261118T030000Z-a', null])
    expect(lines({ 'web.media': whole })).toEqual([expect.stringContaining('Back up now')]);
});

test('a key is shown with what its id stands for, or how to find out', () => {
  const snapshots = ['20261120T030000Z-a'];
  const [age, gpg] = [
    { encryption: 'age' as const, snapshots },
    { encryption: 'gpg' as const, snapshots },
  ];
  expect(keyLines([{ ...age, id: '2653fabc', standsFor: 'public key age1x' }])).toEqual([
    '  age key 2653fabc: needed by 1 snapshot, the newest 20261120T030000Z-a',
    '    public key age1x',
  ]);
  expect(keyLines([{ ...age, id: '2653fabc' }])[1]).toContain('printf %s age1');
  expect(keyLines([{ ...gpg, id: '2653fabc' }, age])).toHaveLength(2);
});
