import { expect, test } from 'vitest';
import type { LifeboatError } from '../../../../src/base/errors.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';
import { checkFree } from '../../../../src/sources/postgres/tables/taken-names.ts';

/** A live database with an object of each given name in `public`. */
function live(objects: Record<string, 'view' | 'locked' | number>): Session {
  const all = async (sql: string, values: unknown[] = []): Promise<object[]> => {
    if (sql.includes('pg_type')) return Object.keys(objects).map((name) => ({ schema: 'public', name }));
    if (sql.includes('relkind')) return objects[values[1] as string] === 'view' ? [] : [{}];
    const [, name = ''] = /^SELECT FROM "public"\."(.*)" LIMIT 1$/.exec(sql) ?? [];
    const rows = objects[name];
    if (rows === 'locked') throw new Error('canceling statement due to lock timeout');
    return rows === 0 ? [] : [{}];
  };
  return { database: 'app', all, run: async () => undefined } as unknown as Session;
}

test.each<[string, 'view' | 'locked' | number, RegExp]>([
  ['an empty table', 0, /is empty: .*`DROP TABLE "public"\."t"`.*--as NAME and copy the rows/],
  ['a table with rows', 7, /^The present table has rows\. Restore under another name with --as NAME/],
  ['a view or a type', 'view', /^Restore under another name with --as NAME\. Nothing was changed\.$/],
  ['a table that cannot be read', 'locked', /^Restore under another name with --as NAME\. Nothing was changed\.$/],
])('the advice about a taken name fits %s', async (_, object, hint) => {
  const error = await checkFree(live({ other: 1, t: object }), [{ schema: 'public', name: 't' }]).catch(
    (reason: LifeboatError) => reason,
  );
  expect(error).toMatchObject({ code: 'PG_TARGET_EXISTS', hint: expect.stringMatching(hint) });
});
