import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import type { ArchiveEntry } from '../../../../src/sources/postgres/load/archive.ts';
import { fillWithoutChecks } from '../../../../src/sources/postgres/load/heal-checks.ts';
import { type RunRestoreOptions, runRestore, TangledError } from '../../../../src/sources/postgres/load/run-restore.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(path.join(os.tmpdir(), 'run-restore-'));
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

/** One call of pg_restore: what it says, and how it ends. */
interface Call {
  said: string;
  ends: string | undefined;
}

const connection = { host: '127.0.0.1', port: 5432, user: 'postgres', application: 'lifeboat' };

/** Rows that were loaded while no trigger fired refer to none. */
let orphans = false;

function optionsFor(calls: Call[], events: string[], jobs: number, mayQuiet = true): RunRestoreOptions {
  const session = {
    run: async (sql: string) => {
      if (!mayQuiet && sql.startsWith('SET session_replication_role')) throw new Error('permission denied');
      if (sql.includes('ADD CONSTRAINT "f"') && orphans)
        throw new LifeboatError('PG_QUERY', 'a query failed', {
          cause: Object.assign(new Error('violates foreign key constraint "f"'), { severity: 'ERROR' }),
        });
      events.push(sql);
    },
    all: async (sql: string) => {
      if (sql.includes("contype = 'f'"))
        return [
          { schema: 's', table: 't', name: 'f', definition: 'FOREIGN KEY (v) REFERENCES s.p(id)', comment: null },
        ];
      if (sql.includes('pg_constraint')) return [{ name: 'c', definition: 'CHECK ((v > 0))', comment: "why's" }];
      if (!sql.includes('pg_trigger')) return [{ filled: true }];
      return [
        { name: 'plain', state: 'O' },
        { name: 'always', state: 'A' },
      ];
    },
    one: async () => ({ filled: true }),
    close: async () => undefined,
  };
  const tools = {
    ...{ connection, container: 'db' },
    activity: async () => '',
    session: async () => session,
    run: async (command: string[]) => {
      events.push(`pg_restore${command[4] === '' ? '' : ` ${command[4]}`}`);
      const { said, ends } = calls.shift() as Call;
      await appendFile(command[3] as string, said);
      if (ends !== undefined) throw new LifeboatError('EXEC_FAILED', `pg_restore ${ends}`);
      return '';
    },
  } as unknown as Tools;
  return {
    ...{
      tools,
      about: 'app',
      database: 'working',
      directory: '/dump',
      lists: scratch,
      scratch,
      jobs,
      tablespaces: true,
    },
    ...{ stallTimeoutMs: 60_000, signal: new AbortController().signal, grows: async () => '' },
  };
}

const failed = (id: number, words: string) =>
  `pg_restore: from TOC entry ${id}; 2606 16441 FK CONSTRAINT child f${id} postgres\npg_restore: error: could not execute query: ERROR:  ${words}\n`;
const closing = (count: number) => `pg_restore: warning: errors ignored on restore: ${count}\n`;
const ONE = failed(7, 'no such thing');

describe('the way in which pg_restore ends', () => {
  const run = (call: Call, jobs: number) => runRestore(optionsFor([call], [], jobs), {});

  it('is explained by objects that failed where it came to its end', async () => {
    const whole = await run({ said: ONE + failed(8, 'b') + closing(2), ends: 'ended with status 1' }, 3);
    expect(whole.map(({ dumpId, words }) => [dumpId, words])).toEqual([
      [7, 'no such thing'],
      [8, 'b'],
    ]);
  });

  it('is explained where a worker counted an entry twice', async () => {
    const said = `${failed(8, 'before')}pg_restore: launching item 7 FK CONSTRAINT child f7\n${ONE}${closing(3)}`;
    expect(await run({ said, ends: 'ended with status 1' }, 3)).toHaveLength(2);
  });

  it('is success with status 0, whatever a notice looks like', async () => {
    expect(await run({ said: ONE, ends: undefined }, 3)).toEqual([]);
  });

  it.each([
    ['killed', ONE, 'was killed'],
    ['killed with its last line written', ONE + closing(1), 'was killed'],
    ['ended before its last line', ONE, 'ended with status 1'],
    ['ended by a signal', ONE, 'ended with status 143'],
    ['another status', ONE + closing(1), 'ended with status 12'],
    ['a worker that died', `${ONE}pg_restore: error: a worker process died unexpectedly\n`, 'ended with status 1'],
  ])('is fatal, whatever failed before: %s', async (_, said, ends) => {
    const error = await run({ said, ends }, 3).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PG_RESTORE_FAILED' });
    expect(error).not.toBeInstanceOf(TangledError);
  });

  it('names the worker that died', async () => {
    const said = `${ONE}pg_restore: error: worker process failed: exit code 9\n`;
    await expect(run({ said, ends: 'ended with status 1' }, 3)).rejects.toThrow(/worker process failed/);
  });

  const TANGLED: [string, string][] = [
    ['an error that was lost', ONE + closing(2)],
    ['more errors than were counted', ONE + failed(8, 'b') + closing(1)],
    ['lines in one another', `pg_restore: pg_restore: finished item 3\n${ONE}${closing(1)}`],
    ['an entry without its error', `pg_restore: from TOC entry 9; 0 0 INDEX i x\n${ONE}${closing(1)}`],
    ['an entry without its error at the end', `${ONE}pg_restore: from TOC entry 9; 0 0 INDEX i x\n${closing(1)}`],
  ];
  it.each(TANGLED)('is not trusted with several workers: %s', async (_, said) => {
    await expect(run({ said, ends: 'ended with status 1' }, 3)).rejects.toBeInstanceOf(TangledError);
  });

  it.each(TANGLED)('is fatal with one worker: %s', async (_, said) => {
    const error = await run({ said, ends: 'ended with status 1' }, 1).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'PG_RESTORE_FAILED' });
    expect(error).not.toBeInstanceOf(TangledError);
  });
});

describe('rows that come back without CHECK constraints', () => {
  const entry: ArchiveEntry = {
    ...{ dumpId: 7, kind: 'TABLE DATA', section: 'data', schema: 's', tag: 't', definition: '', dependencies: [] },
    file: '7.dat',
  };
  const failures = [{ dumpId: 7, words: 'new row violates check constraint "c"' }];
  const DISABLED = ['ALTER TABLE "s"."t" DISABLE TRIGGER "plain"', 'ALTER TABLE "s"."t" DISABLE TRIGGER "always"'];
  const ENABLED = ['ALTER TABLE "s"."t" ENABLE TRIGGER "plain"', 'ALTER TABLE "s"."t" ENABLE ALWAYS TRIGGER "always"'];

  it('fire no trigger', async () => {
    const events: string[] = [];
    await fillWithoutChecks(optionsFor([{ said: '', ends: undefined }], events, 3), [entry], failures);
    const restore = events.indexOf('pg_restore -c session_replication_role=replica');
    expect(restore).toBeGreaterThan(0);
    expect(events.slice(0, restore)).toEqual(expect.arrayContaining(DISABLED));
    expect(events.slice(restore)).toEqual(expect.arrayContaining(ENABLED));
    expect(await readFile(path.join(scratch, 'unchecked.list'), 'utf8')).toBe('7;\n');
    expect(events).toContain('ALTER TABLE "s"."t" ADD CONSTRAINT "c" CHECK ((v > 0)) NOT VALID');
    expect(events.join()).toContain('COMMENT ON CONSTRAINT "c" ON "s"."t" IS');
  });

  it('make room for foreign keys that failed without them', async () => {
    const calls = [
      { said: '', ends: undefined },
      { said: '', ends: undefined },
    ];
    const more = [...failures, { dumpId: 9, words: 'violates foreign key constraint' }];
    const { failures: left } = await fillWithoutChecks(optionsFor(calls, [], 3), [entry], more);
    expect([left, calls]).toEqual([[], []]);
    expect(await readFile(path.join(scratch, 'after-checks.list'), 'utf8')).toBe('9;\n');
  });

  it('are checked against the foreign keys that are there: one that they break is left out, and is a failure', async () => {
    const key = { ...entry, dumpId: 11, kind: 'FK CONSTRAINT', tag: 't f' };
    const fill = async (events: string[]) =>
      (await fillWithoutChecks(optionsFor([{ said: '', ends: undefined }], events, 3), [entry, key], failures))
        .failures;
    const anew = 'ALTER TABLE "s"."t" DROP CONSTRAINT "f"';
    const good: string[] = [];
    expect(await fill(good)).toEqual([]);
    expect(good).toContain(`${anew}; ALTER TABLE "s"."t" ADD CONSTRAINT "f" FOREIGN KEY (v) REFERENCES s.p(id)`);
    orphans = true;
    const broken: string[] = [];
    const left = await fill(broken).finally(() => {
      orphans = false;
    });
    expect(left).toEqual([{ dumpId: 11, words: 'violates foreign key constraint "f"' }]);
    expect(broken).toContain(anew);
  });

  it('leave a validated constraint on a table that stays empty', async () => {
    const events: string[] = [];
    const still = { said: `pg_restore: from TOC entry 7; 0 1 TABLE DATA t x\npg_restore: error: no\n${closing(1)}` };
    await fillWithoutChecks(optionsFor([{ ...still, ends: 'ended with status 1' }], events, 3), [entry], failures);
    expect(events).toContain('ALTER TABLE "s"."t" ADD CONSTRAINT "c" CHECK ((v > 0))');
  });

  it('fire none where the role may not set session_replication_role', async () => {
    const events: string[] = [];
    await fillWithoutChecks(optionsFor([{ said: '', ends: undefined }], events, 3, false), [entry], failures);
    const restore = events.indexOf('pg_restore');
    expect(events.slice(0, restore)).toEqual(expect.arrayContaining(DISABLED));
    expect(events.slice(restore)).toEqual(expect.arrayContaining(ENABLED));
  });
});
