import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { checkWithAmcheck } from '../../../src/restore/point/check-recovered.ts';
import { lookAtStarted, type Reaching } from '../../../src/restore/point/live-server.ts';
import { identityOf } from '../../../src/restore/point/server-programs.ts';
import type { Session } from '../../../src/sources/postgres/server/session.ts';

/** What is asked of recovered data. */

const { signal } = new AbortController();
const refusal = (code: string, message: string) =>
  new LifeboatError('PG_QUERY', message, { cause: Object.assign(new Error(message), { code, severity: 'FATAL' }) });

/** Checks a server of which some databases refuse sessions. */
function check(databases: Record<string, unknown>) {
  const session = (database: string) =>
    ({
      ...{ database, versionNumber: 170_000, run: async () => undefined, close: async () => undefined },
      one: async () => ({ schema: 'pg_catalog' }),
      async all(sql: string) {
        if (!sql.includes('pg_database')) return [];
        return Object.entries(databases).map(([name, how]) => ({ name, dropped: how === 'dropped' }));
      },
    }) as unknown as Session;
  const tools = {
    control: async () => session('postgres'),
    async session(name: string) {
      if (databases[name] instanceof Error) throw databases[name];
      return session(name);
    },
  };
  return checkWithAmcheck(tools, { limitMs: 60_000, signal });
}

describe('the check of indexes and tables', () => {
  test('says which databases it cannot check, and checks the others', async () => {
    const { ok, detail } = await check({
      half: 'dropped',
      closed: refusal('42501', 'permission denied for database "closed"'),
      app: undefined,
    });
    expect(ok).toBe(true);
    expect(detail).toContain('half: not checked, because DROP DATABASE was interrupted');
    expect(detail).toContain('closed: cannot be checked: permission denied');
  });

  test.each(['XX001', 'XX000', '58P01'])('takes error %s of a database for damage', async (code) => {
    expect(await check({ app: refusal(code, 'could not open file "base/1/2"') })).toMatchObject({
      ok: false,
      detail: 'app: could not open file "base/1/2"',
    });
  });

  test('fails if the server is gone', async () => {
    await expect(check({ app: new LifeboatError('PG_UNREACHABLE', 'no answer') })).rejects.toThrow('no answer');
  });
});

describe('recovered data', () => {
  const control = `Database system identifier:           7713464397883531290
Latest checkpoint location:           0/3000028
Latest checkpoint's TimeLineID:       3
Latest checkpoint's PrevTimeLineID:   2`;

  test('says which server it is of', () => {
    expect(identityOf(control)).toEqual({ systemId: '7713464397883531290', timeline: 3 });
    expect(() => identityOf('')).toThrow(expect.objectContaining({ code: 'PG_RESTORE_FAILED' }));
  });

  test.each([
    [{ systemId: '7', timeline: 3 }, true, 'accepts connections, on timeline 3'],
    [{ systemId: '7', timeline: 2 }, false, 'the server runs on other data: on timeline 2'],
    [{ systemId: '8', timeline: 3 }, false, 'the server runs on other data: on timeline 3 of the server 8'],
  ])('is what the server runs on after a recovery in place, and not %j', async (found, ok, detail) => {
    const session = { one: async () => ({ recovering: false, ...found }) };
    const reaching = {
      ...{ server: { name: 'db.postgres' }, context: { id: 'run' }, signal, say: () => undefined },
      deps: {
        project: 'shop',
        openTools: async () => ({ control: async () => session, close: async () => undefined }),
      },
    } as unknown as Reaching;
    expect(await lookAtStarted(reaching, { systemId: '7', timeline: 3 })).toMatchObject([
      { name: 'db.postgres', ok, detail: expect.stringContaining(detail) },
    ]);
  });

  test('is not called wrong if the recovery is interrupted while it looks', async () => {
    const stopping = new AbortController();
    const stopped = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
    const openTools = async () => {
      stopping.abort(stopped);
      throw new Error('cut');
    };
    const reaching = {
      ...{ server: { name: 'db.postgres' }, context: { id: 'run' }, signal: stopping.signal, say: () => undefined },
      deps: { project: 'shop', openTools },
    } as unknown as Reaching;
    await expect(lookAtStarted(reaching, { systemId: '7', timeline: 3 })).rejects.toBe(stopped);
  });
});
