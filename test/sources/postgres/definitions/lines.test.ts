import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { PRINTING } from '../../../../src/sources/postgres/definitions/definitions.ts';
import { LINES } from '../../../../src/sources/postgres/definitions/lines.ts';

test('the lines of objects are those of the recorded printing', () => {
  const versions = [130000, 140000, 150000, 160000, 170000, 180000];
  const queries = Object.entries(LINES).map(([kind, lines]) => [kind, ...versions.map(lines)]);
  const hash = createHash('sha256').update(JSON.stringify(queries)).digest('hex').slice(0, 16);
  // If the line of any object has changed, raise PRINTING: older snapshots would differ from what they hold.
  expect([PRINTING, hash]).toEqual([1, '8a0b7e91830c5ea4']);
});
