import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { checkRelations } from '../../../../src/sources/postgres/facts/amcheck.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';

/** A refusal of the server. */
function refusal(code: string, message: string): LifeboatError {
  return new LifeboatError('PG_QUERY', message, {
    cause: Object.assign(new Error(message), { code, severity: 'ERROR' }),
  });
}

/** A session of a server whose checks of relations answer as given, by the id of the relation. */
function session(answers: Record<string, () => { damage: string | null }>, ran: string[] = []): Session {
  return {
    database: 'app',
    versionNumber: 170000,
    run: async (sql) => void ran.push(sql),
    one: async () => ({ schema: 'pg_catalog' }) as never,
    all: async (sql, [id] = []) => {
      if (id !== undefined) return [(answers[id as string] as () => object)()] as never;
      const all = Object.keys(answers).map((oid) => ({ schema: 'public', name: `r${oid}`, oid, kind: 'index' }));
      return (sql.includes('pg_class') ? all : []) as never;
    },
    close: async () => undefined,
  };
}
const fine = () => ({ damage: null });
const check = (of: Session, ms = 60_000) =>
  checkRelations(of, { tables: false, until: performance.now() + ms, signal: new AbortController().signal });

describe('a check with amcheck', () => {
  test('names what is damaged, and changes nothing', async () => {
    const ran: string[] = [];
    const found = await check(
      session(
        {
          1: fine,
          2: () => ({ damage: 'a gap' }),
          3: () => {
            throw refusal('XX002', 'wrong order');
          },
        },
        ran,
      ),
    );
    expect(found).toMatchObject({ indexes: 3, left: 0, damaged: ['public.r2: a gap', 'public.r3: wrong order'] });
    expect([ran[0], ran.at(-1)]).toEqual(['BEGIN', 'ROLLBACK']);
  });

  test('lets the server end a check of one huge index when time is up, and says what is left', async () => {
    const ran: string[] = [];
    const slow = () => {
      throw refusal('57014', 'canceling statement due to statement timeout');
    };
    const found = await check(session({ 1: fine, 2: slow }, ran), 5000);
    expect(found).toMatchObject({ indexes: 1, left: 1, damaged: [] });
    const limits = ran.flatMap((sql) => /statement_timeout = (\d+)$/.exec(sql)?.[1] ?? []).map(Number);
    expect(limits).toHaveLength(2);
    for (const limit of limits) expect(limit > 0 && limit <= 5000).toBe(true);
    expect(await check(session({ 1: fine, 2: fine }), -1)).toMatchObject({ indexes: 0, left: 2 });
  });

  test('says that an image without the extension cannot be checked', async () => {
    const without = session({ 1: fine });
    const found = await check({
      ...without,
      run: async (sql) => {
        if (sql.startsWith('CREATE EXTENSION')) throw refusal('0A000', 'extension "amcheck" is not available');
      },
    });
    expect(found).toMatchObject({ indexes: 0, unavailable: expect.stringContaining('not available') });
  });

  test('ends with the session', async () => {
    const gone = () => {
      throw new LifeboatError('PG_UNREACHABLE', 'the connection ended');
    };
    await expect(check(session({ 1: gone }))).rejects.toMatchObject({ code: 'PG_UNREACHABLE' });
  });
});
