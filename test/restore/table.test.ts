import { expect, it } from 'vitest';
import type { RestoreContext, RestoreDeps, RestoreRequest } from '../../src/restore/context.ts';
import { prepareTables } from '../../src/restore/table.ts';

it.each<[string, Partial<RestoreRequest>]>([
  ['--as without --table', { tables: [], as: 'x' }],
  ['--as with several tables', { tables: ['a', 'b'], as: 'x' }],
  ['--path', { paths: ['x'] }],
  ['--to-directory', { toDirectory: '/restored/x' }],
  ['--to-database', { toDatabase: 'x' }],
  ['--globals', { globals: true }],
])('--table is refused before anything is read: %s', async (_, options) => {
  const nothing = new Proxy({}, { get: (_target, name) => expect.unreachable(`asked for ${String(name)}`) });
  const request = { tables: ['a'], paths: [], globals: false, source: 'db.postgres', ...options } as unknown;
  await expect(
    prepareTables(nothing as RestoreDeps, request as RestoreRequest, nothing as RestoreContext),
  ).rejects.toMatchObject({ code: 'USAGE' });
});
