import { expect, test } from 'vitest';
import type { Window } from '../../src/store/wal/windows.ts';
import { leadsTo } from '../../src/wal/base-maker.ts';

const window = { systemId: '1', timeline: 1, toLsn: '0/9000000', from: '', to: '', bases: [] } satisfies Window;

test('a base backup leads to the end of the stored WAL only on the same timeline of the same server', () => {
  const stored = 0x900_0000n;
  expect(leadsTo(window, { systemId: '1', timeline: 1, stored })).toBe(true);
  expect(leadsTo(window, { systemId: '1', timeline: 1, stored: stored + 1n })).toBe(false);
  // A recovery in place took the server back to a lower position.
  expect(leadsTo(window, { systemId: '1', timeline: 2, stored: 0x500_0000n })).toBe(false);
  expect(leadsTo(window, { systemId: '2', timeline: 1, stored: 0x500_0000n })).toBe(false);
});
