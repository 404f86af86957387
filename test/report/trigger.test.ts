import { expect, test } from 'vitest';
import { originText } from '../../src/report/status-word.ts';
import { isRegularRun, storesPast, type Trigger } from '../../src/report/trigger.ts';
import { isRegular } from '../../src/store/objects/manifest.ts';

test.each<[Trigger, { regular: boolean; past: boolean }]>([
  ['schedule', { regular: true, past: false }],
  ['catch-up', { regular: true, past: false }],
  ['manual', { regular: true, past: false }],
  ['safety', { regular: false, past: false }],
  ['import', { regular: false, past: true }],
  ['recovery', { regular: false, past: true }],
])('a snapshot by %s: %j', (trigger, { regular, past }) => {
  expect([isRegularRun(trigger), isRegular({ trigger })]).toEqual([regular, regular]);
  expect(storesPast(trigger)).toBe(past);
});

test('the origin of a snapshot of old data', () => {
  const of = (trigger: Trigger, file: string) =>
    originText({ trigger, imported: { at: '2026-11-20T13:29:50.000Z', file } });
  expect(of('import', 'a.zip')).toBe('import, state of 2026-11-20 13:29:50Z of a.zip');
  expect(of('recovery', 'recovery to xid 5')).toBe('recovery to xid 5, state of 2026-11-20 13:29:50Z');
  expect(originText({ trigger: 'manual' })).toBe('manual');
});
