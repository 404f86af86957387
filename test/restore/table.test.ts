import { expect, it } from 'vitest';
import type { RestoreContext, RestoreDeps, RestoreRequest } from '../../src/restore/context.ts';
import { prepareTables, undoText } from '../../src/restore/table.ts';
import { readNewName } from '../../src/sources/postgres/tables/table-names.ts';
import type { TableParts } from '../../src/sources/postgres/tables/table-parts.ts';

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

it.each([
  ['orders_old', 'orders_old'],
  ['"sales.orders_old"', 'sales.orders_old'],
  ['"Orders then"', 'Orders then'],
  ['Orders', 'Orders'],
  ['-fx"; DROP TABLE a; --', '-fx"; DROP TABLE a; --'],
])('--as %s names the table %s', (as, name) => {
  expect(readNewName(as, 'public')).toBe(name);
});

it.each([
  ['public.orders_old', 'Use --as orders_old.'],
  ['sales.orders_old', 'Use --as orders_old. For a name with a dot, use --as \'"sales.orders_old"\'.'],
  ['a.sales.old', 'Use --as old.'],
  ['"sales".old', 'Use --as \'"old"\'.'],
  ['sales."Old"', 'Use --as \'"Old"\'.'],
])('--as takes no schema, be it that of the table or another: %s', (as, hint) => {
  expect(() => readNewName(as, 'public')).toThrow(
    expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining(hint) }),
  );
});

it.each(['', 'sales.', 'x'.repeat(64)])('--as needs a name of 1 to 63 bytes: %j', (as) => {
  expect(() => readNewName(as, 'public')).toThrow(expect.objectContaining({ code: 'USAGE' }));
});

it('a restored table is undone by dropping it, with its partitions', () => {
  const of = (name: string, dumpId: number, root = 1) => ({ schema: 'public', name, root, entry: { dumpId } });
  const tables = [of('orders', 1), of('orders_2026', 2)] as unknown as TableParts['tables'];
  expect(undoText('shop', { tables }, undefined)).toBe('DROP TABLE "public"."orders" in database shop');
  expect(undoText('shop', { tables }, 'orders_then')).toBe('DROP TABLE "public"."orders_then" in database shop');
});
