import { expect, test } from 'vitest';
import type { Whole } from '../../../src/restore/all/parts.ts';
import { failure } from '../../../src/restore/all/report.ts';

test.each<[string | undefined, string]>([
  ['Start its container.', 'Start its container. `lifeboat restore latest web.a` restores one of them alone.'],
  [undefined, 'They are unchanged. `lifeboat restore latest web.a` restores one of them alone.'],
  // The same command without --to-directory would be refused again.
  ...['Restore it with `lifeboat restore latest web.a --to-directory /restored/web.a`.'].map(
    (hint): [string, string] => [hint, hint],
  ),
])('a restore that left out sources names one command: %s', (hint, expected) => {
  const error = { code: 'TREE_TARGET_REFUSED' as const, message: 'refused', ...(hint === undefined ? {} : { hint }) };
  const whole = {
    request: { snapshot: 'latest' },
    opened: [],
    failed: [{ target: 'web.a', error }],
  } as unknown as Whole;
  expect(failure(whole).hint).toBe(expected);
});

test('the command names the snapshot that was read, and the repository', () => {
  const error = { code: 'PG_NO_SPACE' as const, message: 'no space' };
  const whole = {
    request: { snapshot: 'latest', from: '/other', project: 'shop' },
    opened: [{ start: { source: 'db.postgres', snapshot: '20261120T030000Z-aaaaaa' } }],
    failed: [{ target: 'db.postgres', error }],
  } as unknown as Whole;
  expect(failure(whole).hint).toContain(
    '`lifeboat restore 20261120T030000Z-aaaaaa db.postgres --from /other --project shop`',
  );
});
