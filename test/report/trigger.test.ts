import { expect, test } from 'vitest';
import { originText, triggerText } from '../../src/report/status-word.ts';
import { isRegularRun, storesPast, type Trigger } from '../../src/report/trigger.ts';
import { isRegular } from '../../src/store/objects/manifest.ts';

test.each<[Trigger, { regular: boolean; past: boolean }]>([
  ['schedule', { regular: true, past: false }],
  ['catch-up', { regular: true, past: false }],
  ['manual', { regular: true, past: false }],
  ['safety', { regular: false, past: false }],
  ['import', { regular: false, past: true }],
])('a snapshot by %s: %j', (trigger, { regular, past }) => {
  expect([isRegularRun(trigger), isRegular({ trigger })]).toEqual([regular, regular]);
  expect(storesPast(trigger)).toBe(past);
});

test('the origin of a snapshot of old data', () => {
  const of = (file: string, kind?: string) =>
    ({ trigger: 'import', imported: { at: '2026-11-20T13:29:50.000Z', file, kind } }) as const;
  expect(originText(of('a.zip'))).toBe('import, state of 2026-11-20 13:29:50Z of a.zip');
  expect(originText(of('recovery to xid 5', 'recovery'))).toBe('recovery to xid 5, state of 2026-11-20 13:29:50Z');
  expect(triggerText(of('recovery to xid 5', 'recovery'))).toBe('recovery, state of 2026-11-20 13:29:50Z');
  expect(originText({ trigger: 'manual' })).toBe('manual');
});
