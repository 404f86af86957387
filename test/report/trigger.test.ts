import { expect, test } from 'vitest';
import { originText } from '../../src/report/terminal/listing.ts';
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
  expect(originText('import', { file: 'a.zip' })).toBe('import of a.zip');
  expect(originText('recovery', { file: 'recovery to 2026-11-20' })).toBe('recovery to 2026-11-20');
});
