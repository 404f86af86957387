import { expect, test } from 'vitest';
import { workingName } from '../../../../src/sources/postgres/load/swap.ts';

test('working names fit 63 bytes, and long names with the same beginning differ', () => {
  expect(workingName('app', 'before', '4f1c9a')).toBe('app__before_4f1c9a');
  const exact = 'x'.repeat(63 - '__restoring_4f1c9a'.length);
  expect(workingName(exact, 'restoring', '4f1c9a')).toBe(`${exact}__restoring_4f1c9a`);
  const names = ['a', 'b'].map((end) => workingName(`${'ä'.repeat(31)}${end}`, 'restoring', '4f1c9a'));
  expect(names[0]).toMatch(/^ä+~[0-9a-f]{6}__restoring_4f1c9a$/);
  expect(new Set(names).size).toBe(2);
  for (const name of names) expect(Buffer.byteLength(name)).toBeLessThanOrEqual(63);
});
