import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { ArchiveEntry } from '../../../../src/sources/postgres/archive/archive.ts';
import type { RunRestoreOptions } from '../../../../src/sources/postgres/archive/run-restore.ts';
import type { DatabaseFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { fillWithoutConstraints } from '../../../../src/sources/postgres/load/heal-constraints.ts';
import { healFailures } from '../../../../src/sources/postgres/load/heal-failures.ts';
import { checkForeignKeys } from '../../../../src/sources/postgres/load/heal-foreign-keys.ts';
import type { Session } from '../../../../src/sources/postgres/server/session.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'heal-constraints-'));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

const refusal = (words: string) =>
  new LifeboatError('PG_QUERY', 'a query failed', {
    cause: Object.assign(new Error(words), { severity: 'ERROR', code: '23514' }),
  });

interface Server {
  /** statements and calls of pg_restore, in order */
  events: string[];
  /** statements that the server refuses, with its messages */
  refuses?: [part: string, words: string][];
  mayQuiet?: boolean;
}

/**
 * A server with a table s.t that has a CHECK constraint c and triggers. From version 18 on, NOT NULL is a constraint
 * too.
 */
function sessionOf({ events, refuses = [], mayQuiet = true }: Server): Session {
  let dropped = false;
  const firing = [
    { kind: 'TRIGGER', name: 'plain', state: 'O' },
    { kind: 'TRIGGER', name: 'always', state: 'A' },
    { kind: 'RULE', name: 'elsewhere', state: 'O' },
  ].map((one) => ({ ...one, table: '"s"."t"', depth: 0 }));
  return {
    versionNumber: 180_000,
    run: async (sql: string) => {
      if (!mayQuiet && sql.startsWith('SET session_replication_role')) throw refusal('permission denied');
      events.push(sql);
      const words = refuses.find(([part]) => sql.includes(part))?.[1];
      if (words !== undefined) throw refusal(words);
      if (sql.includes('DROP CONSTRAINT "c"')) dropped = true;
      for (const one of firing) {
        if (!sql.endsWith(`${one.kind} "${one.name}"`)) continue;
        one.state = sql.includes(' DISABLE ') ? 'D' : sql.includes(' ALWAYS ') ? 'A' : 'O';
      }
    },
    all: async (sql: string) => {
      if (sql.includes('pg_trigger')) return firing.map((one) => ({ ...one }));
      if (sql.includes('attgenerated')) return [{ name: 'v', value: 'v::integer' }];
      if (sql.includes('AS "isNotNull"') && !dropped) {
        const check = { definition: 'CHECK ((v > 0))', comment: "why's", isNotNull: false };
        return [{ table: '"s"."t"', shown: 's.t', name: 'c', ...check }];
      }
      if (sql.includes('convalidated'))
        return [
          { schema: 's', table: 't', name: 'f', definition: 'FOREIGN KEY (v) REFERENCES s.p(id)', comment: null },
        ];
      return [];
    },
    one: async () => ({ all: '1', refused: '0', last: '1', words: '' }),
    close: async () => undefined,
  } as unknown as Session;
}

/** @param calls what each call of pg_restore writes; empty: it succeeds */
function optionsFor(server: Server, calls: string[]): RunRestoreOptions {
  const tools = {
    ...{ connection: { host: '127.0.0.1', port: 5432, user: 'postgres', application: 'lifeboat' }, container: 'db' },
    activity: async () => '',
    session: async () => sessionOf(server),
    run: async (command: string[]) => {
      server.events.push(`pg_restore ${command[4]}`.trim());
      const said = calls.shift() as string;
      await appendFile(command[3] as string, said);
      if (said !== '') throw new LifeboatError('EXEC_FAILED', 'pg_restore ended with status 1');
      return '';
    },
  } as unknown as Tools;
  return {
    ...{ tools, about: 'app', database: 'working', directory: '/dump', lists: scratch, scratch, jobs: 3 },
    ...{ tablespaces: true, stallTimeoutMs: 60_000, signal: new AbortController().signal, grows: async () => '' },
  };
}

const entry: ArchiveEntry = {
  ...{ dumpId: 7, kind: 'TABLE DATA', section: 'data', schema: 's', tag: 't', definition: '', dependencies: [] },
  file: '7.dat',
};
const failures = [{ dumpId: 7, words: 'new row violates check constraint "c"' }];
const REFUSED =
  'pg_restore: from TOC entry 7; 0 1 TABLE DATA t x\npg_restore: error: no\npg_restore: warning: errors ignored on restore: 1\n';

describe('rows that come back without constraints', () => {
  const ADD = 'ALTER TABLE "s"."t" ADD CONSTRAINT "c" CHECK ((v > 0))';
  const COMMENT = `COMMENT ON CONSTRAINT "c" ON "s"."t" IS 'why''s'`;
  const RULE = 'RULE "elsewhere"';
  const DISABLED = [
    `ALTER TABLE "s"."t" DISABLE ${RULE}`,
    'ALTER TABLE "s"."t" DISABLE TRIGGER "plain"',
    'ALTER TABLE "s"."t" DISABLE TRIGGER "always"',
  ];
  const ENABLED = [
    `ALTER TABLE "s"."t" ENABLE ${RULE}`,
    'ALTER TABLE "s"."t" ENABLE TRIGGER "plain"',
    'ALTER TABLE "s"."t" ENABLE ALWAYS TRIGGER "always"',
  ];

  it.each([
    [true, 'pg_restore -c session_replication_role=replica'],
    [false, 'pg_restore'],
  ])('fire no trigger, whether the role may set session_replication_role (%s)', async (mayQuiet, call) => {
    const server: Server = { events: [], mayQuiet };
    await fillWithoutConstraints(optionsFor(server, ['']), [entry], failures);
    const restore = server.events.indexOf(call);
    expect(restore).toBeGreaterThan(0);
    expect(server.events.slice(0, restore)).toEqual(expect.arrayContaining(DISABLED));
    expect(server.events.slice(restore)).toEqual(expect.arrayContaining(ENABLED));
    expect(await readFile(path.join(scratch, 'unconstrained.list'), 'utf8')).toBe('7;\n');
  });

  it('fire no trigger and no rule where they are inserted one by one', async () => {
    const server: Server = { events: [], mayQuiet: false };
    const healed = await fillWithoutConstraints(optionsFor(server, [REFUSED, '']), [entry], failures);
    expect(healed.failures).toEqual([]);
    const insert = server.events.findIndex((event) => event.includes('INSERT INTO'));
    expect(insert).toBeGreaterThan(0);
    const enabled = server.events.findIndex((event) => event.includes(' ENABLE '));
    expect(server.events.slice(0, insert)).toEqual(expect.arrayContaining(DISABLED));
    expect(enabled).toBeGreaterThan(insert);
    expect(server.events.slice(insert)).toEqual(expect.arrayContaining(ENABLED));
  });

  it('fire no trigger and no rule where they are loaded again unchanged', async () => {
    const server: Server = { events: [], mayQuiet: false };
    const lost = [{ dumpId: 7, words: 'relation "limits" does not exist' }];
    const recorded = { name: 'app', settings: [] } as unknown as DatabaseFacts;
    const healed = await healFailures(optionsFor(server, ['']), recorded, [entry], lost);
    expect(healed.failures).toEqual([]);
    const restore = server.events.findIndex((event) => event.startsWith('pg_restore'));
    expect(server.events.slice(0, restore)).toEqual(expect.arrayContaining(DISABLED));
    expect(server.events.slice(restore)).toEqual(expect.arrayContaining(ENABLED));
  });

  it('are not loaded again if the server refuses to disable a trigger', async () => {
    const refuses: Server['refuses'] = [['DISABLE TRIGGER "always"', 'must be owner of table t']];
    const server: Server = { events: [], refuses };
    const healed = await fillWithoutConstraints(optionsFor(server, []), [entry], failures);
    expect(healed.failures).toEqual(failures);
    expect(server.events.filter((event) => event.startsWith('pg_restore'))).toEqual([]);
  });

  it('keep a constraint that they satisfy unchanged, with nothing to report', async () => {
    const server: Server = { events: [] };
    const healed = await fillWithoutConstraints(optionsFor(server, ['']), [entry], failures);
    expect(healed).toEqual({ failures: [], lost: [], gone: 0 });
    expect(server.events.at(-1)).toBe(`${ADD}; ${COMMENT}`);
  });

  it('keep a constraint that they violate only for new rows, and the report has the statement that validates it', async () => {
    const refuses: Server['refuses'] = [[`${ADD}; `, 'is violated by some row']];
    const server: Server = { events: [], refuses };
    const healed = await fillWithoutConstraints(optionsFor(server, ['']), [entry], failures);
    expect(server.events.at(-1)).toBe(`${ADD} NOT VALID; ${COMMENT}`);
    expect(healed).toMatchObject({ failures: [], gone: 0 });
    expect(healed.lost).toEqual([
      {
        ...{ database: 'app', kind: 'check constraint', name: 's.t c' },
        statement: 'ALTER TABLE "s"."t" VALIDATE CONSTRAINT "c"',
        message: 'the rows are restored and it applies to new rows only: is violated by some row',
      },
    ]);
  });

  it('lose a constraint that the server refuses to add again, and the report has the statement that creates it', async () => {
    const server: Server = { events: [], refuses: [[ADD, 'function f does not exist']] };
    const healed = await fillWithoutConstraints(optionsFor(server, ['']), [entry], failures);
    expect(healed).toMatchObject({ failures: [], gone: 1 });
    expect(healed.lost).toMatchObject([{ statement: `${ADD}; ${COMMENT}`, message: /without it: function f/ }]);
  });

  it('allow foreign keys that failed without them', async () => {
    const more = [...failures, { dumpId: 9, words: 'violates foreign key constraint' }];
    const key: ArchiveEntry = { ...entry, dumpId: 9, kind: 'FK CONSTRAINT', section: 'post-data', tag: 'other f' };
    const calls = ['', ''];
    const healed = await fillWithoutConstraints(optionsFor({ events: [] }, calls), [entry, key], more);
    expect([healed.failures, calls]).toEqual([[], []]);
    expect(await readFile(path.join(scratch, 'after-rows.list'), 'utf8')).toBe('9;\n');
  });

  it('leave a validated constraint on a table that stays empty', async () => {
    const server: Server = { events: [] };
    const healed = await fillWithoutConstraints(optionsFor(server, [REFUSED, REFUSED]), [entry], failures);
    expect(healed).toMatchObject({ failures: [{ dumpId: 7, words: 'no' }], lost: [] });
    expect(server.events).toContain(`${ADD}; ${COMMENT}`);
  });
});

describe('foreign keys of rows that were loaded while triggers were off', () => {
  const key: ArchiveEntry = { ...entry, dumpId: 11, kind: 'FK CONSTRAINT', tag: 't f' };
  const drop = 'ALTER TABLE "s"."t" DROP CONSTRAINT "f"';

  it('are checked', async () => {
    const events: string[] = [];
    expect(await checkForeignKeys(sessionOf({ events }), [entry, key], [entry])).toEqual([]);
    expect(events).toEqual([`${drop}; ALTER TABLE "s"."t" ADD CONSTRAINT "f" FOREIGN KEY (v) REFERENCES s.p(id)`]);
  });

  it('are left out if the rows violate them, and are reported as failures', async () => {
    const events: string[] = [];
    const session = sessionOf({ events, refuses: [['ADD CONSTRAINT "f"', 'violates foreign key constraint "f"']] });
    const left = await checkForeignKeys(session, [entry, key], [entry]);
    expect(left).toEqual([{ dumpId: 11, words: 'violates foreign key constraint "f"' }]);
    expect(events.at(-1)).toBe(drop);
  });
});
