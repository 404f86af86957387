import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ArchiveEntry } from '../../../../src/sources/postgres/archive/archive.ts';
import {
  describeFailure,
  FailureLog,
  failureText,
  isDiskFull,
  isSharedMemory,
  parseFailures,
  refusedHint,
} from '../../../../src/sources/postgres/archive/restore-failures.ts';
import { inStages } from '../../../../src/sources/postgres/archive/restore-passes.ts';
import { compareRows, tableKey } from '../../../../src/sources/postgres/facts/compare-rows.ts';
import type { DatabaseFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { createFailed } from '../../../../src/sources/postgres/load/create-database.ts';
import { isHealable } from '../../../../src/sources/postgres/load/heal-failures.ts';
import { allowanceFor, loadedThroughRoot } from '../../../../src/sources/postgres/load/restore-allowance.ts';

const entry = (dumpId: number, kind: string, tag: string, definition = ''): ArchiveEntry => ({
  ...{ dumpId, kind, section: 'post-data', schema: 'public', tag, definition, dependencies: [], file: '' },
});

describe('the messages of pg_restore about objects that it cannot restore', () => {
  const SAID = `pg_restore: connecting to database for restore
pg_restore: launching item 3489 TABLE DATA chk
pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3489; 0 16427 TABLE DATA chk postgres
pg_restore: error: COPY failed for table "chk": ERROR:  relation "limits" does not exist
LINE 1: $1 < (SELECT m FROM limits)
QUERY:  $1 < (SELECT m FROM limits)
CONTEXT:  COPY chk, line 1: "1	canary"
pg_restore:pg_restore: processing data for table "public.arr_1"
 processing data for table "public.orders_0"
pg_restore: from TOC entry 3335; 2606 16441 FK CONSTRAINT child child_p_fkey postgres
pg_restore: error: could not execute query: FEHLER:  insert violates foreign key
DETAIL:  Key (p)=(canary) is not present in table "parent".
HINT:  Look at it.
Command was: ALTER TABLE ONLY public.child
    ADD CONSTRAINT child_p_fkey;

pg_restore: error: could not execute query: ERROR:  a second one of the same
pg_restore: finished main parallel loop
pg_restore: warning: errors ignored on restore: 8
`;

  it('give each entry once, with the words of the server, without rows', () => {
    expect(parseFailures(SAID)).toMatchObject({
      failures: [
        { dumpId: 3489, words: 'relation "limits" does not exist' },
        { dumpId: 3335, words: 'insert violates foreign key (Look at it.)' },
      ],
      others: [],
    });
  });

  it('give errors that belong to no entry separately', () => {
    const said = 'pg_restore: error: connection to server at "127.0.0.1" failed: FATAL:  sorry\n';
    expect(parseFailures(said)).toMatchObject({
      failures: [],
      others: ['connection to server at "127.0.0.1" failed: FATAL:  sorry'],
    });
  });

  it.each([
    [
      'could not resize shared memory segment "/PostgreSQL.1" to 2147483648 bytes: No space left on device',
      false,
      true,
    ],
    ['could not extend file "base/1/2": No space left on device', true, false],
    ['could not extend file "base/1/2": Disk quota exceeded', true, false],
    // In Alpine.
    ['could not extend file "base/1/2": Quota exceeded', true, false],
    ['relation "t" does not exist', false, false],
  ])('distinguish a full disk from too little shared memory: %s', (words, disk, shared) => {
    expect({ disk: isDiskFull(words), shared: isSharedMemory(words) }).toEqual({ disk, shared });
    const hint = refusedHint([
      { dumpId: 1, words: 'relation "t" does not exist' },
      { dumpId: 2, words },
    ]);
    expect({ shmSize: hint.includes('shm_size: 1gb'), table: hint.includes('--table') }).toEqual({
      ...{ shmSize: shared, table: !shared },
    });
  });

  it.each([
    ['relation "limits" does not exist', true],
    ['relation "public.limits" does not exist', false],
    ['function f(integer) does not exist (No function matches.)', true],
    ['function public.f(integer) does not exist', false],
    ['type "geometry" does not exist', true],
    ['operator does not exist: geometry && geometry (No operator matches.)', true],
    ['operator does not exist: text === integer', true],
    ['operator does not exist: - hstore', true],
    ['operator class "gin_trgm_ops" does not exist for access method "gin"', true],
    ['operator class "public.gin_trgm_ops" does not exist for access method "gin"', false],
    ['collation "german" for encoding "UTF8" does not exist', true],
    ['collation "public.german" for encoding "UTF8" does not exist', false],
    ['new row for relation "arr_1" violates partition constraint', true],
    ['new row for relation "t" violates check constraint "c"', false],
    ['could not create unique index "u"', false],
  ])('show which failures can be repaired: %s', (words, healable) => {
    expect(isHealable({ dumpId: 1, words })).toBe(healable);
  });

  it('are shown with statements, except those with credentials', () => {
    const index = describeFailure('app', entry(1, 'INDEX', 'i', '-- c\nCREATE INDEX i\n  ON t (v);\n'), 'no');
    expect(failureText(index)).toBe('index public.i: no (CREATE INDEX i ON t (v);)');
    const subscription = entry(2, 'SUBSCRIPTION', 's', "CREATE SUBSCRIPTION s CONNECTION 'password=canary'");
    expect(describeFailure('app', subscription, 'no').statement).toBeUndefined();
    const view = entry(3, 'VIEW', 'v', "CREATE VIEW v AS SELECT dblink('host=x password=canary user=y')");
    expect(describeFailure('app', view, 'no').statement).toBe(
      "CREATE VIEW v AS SELECT dblink('host=x password=… user=y')",
    );
    expect(describeFailure('app', entry(4, 'TABLE DATA', 't', 'canary'), 'no')).toEqual({
      ...{ database: 'app', kind: 'rows', name: 'public.t', message: 'no' },
    });
  });
});

describe('a comparison with accepted differences', () => {
  const table = (name: string, rows: number, recorded: number, exact = true) => ({
    ...{ schema: 's', name, rows, recorded, exact },
  });
  const key = (name: string) => tableKey({ schema: 's', name });
  const roots = new Map([
    [key('a'), 's.r'],
    [key('b'), 's.r'],
    [key('c'), 's.other'],
  ]);

  it('compares totals only of tables whose rows a dump loads through the topmost table', () => {
    const tables = [table('a', 1, 2), table('b', 3, 2), table('c', 1, 2), table('plain', 5, 5)];
    expect(compareRows(tables, roots, new Set([key('a')]))).toEqual({
      ...{ differences: ['s.c has 1 row, the snapshot has 2'], rows: 4 + 1 + 5, uncompared: 0 },
    });
    expect(compareRows(tables, roots, new Set()).differences).toHaveLength(3);
  });

  it('finds a wrong total, and skips a total with an estimate', () => {
    const moving = new Set([key('b')]);
    const wrong = [table('a', 1, 2), table('b', 2, 2)];
    expect(compareRows(wrong, roots, moving).differences).toEqual([
      's.r with its partitions has 3 rows, the snapshot has 4',
    ]);
    const estimate = [table('a', 1, 2), table('b', 0, 900, false)];
    expect(compareRows(estimate, roots, moving)).toEqual({ differences: [], rows: 0, uncompared: 2 });
    // If no rows move, the other partitions are compared.
    expect(compareRows(estimate, roots, new Set()).differences).toEqual(['s.a has 1 row, the snapshot has 2']);
  });

  it('accepts fewer objects only if they were left out', () => {
    const entries = [
      entry(1, 'TABLE DATA', 'a', '-- load via partition root s.r\n\n'),
      entry(2, 'FK CONSTRAINT', 't f'),
      entry(3, 'EXTENSION', 'x'),
      entry(4, 'TABLE', 't'),
    ];
    expect([...loadedThroughRoot(entries)]).toEqual([tableKey({ schema: 'public', name: 'a' })]);
    const none = allowanceFor(entries, new Set());
    expect([none.extensions.size, none.tables.size, none.fewer.size, none.largeObjects]).toEqual([0, 0, 0, false]);
    expect([...allowanceFor(entries, new Set([2])).fewer]).toEqual([['constraints', 1]]);
    // Entries that are left out with an extension change no count.
    const { extensions, fewer } = allowanceFor(entries, new Set(), { leftOut: new Set([2, 3]) });
    expect([[...extensions], [...fewer]]).toEqual([['x'], [['constraints', 1]]]);
    expect(allowanceFor(entries, new Set([3])).extensions).toEqual(new Set(['x']));
    expect([...allowanceFor(entries, new Set([4])).tables]).toEqual([tableKey({ schema: 'public', name: 't' })]);
  });
});

describe('the calls of pg_restore', () => {
  it('refresh materialized views last', () => {
    const entries = [entry(1, 'TABLE', 't'), entry(2, 'MATERIALIZED VIEW DATA', 'm'), entry(3, 'INDEX', 'i')];
    expect(inStages(entries, [undefined])).toEqual([
      { ids: [1, 3], stage: 'load' },
      { ids: [2], stage: 'refresh' },
    ]);
    expect(inStages(entries, [[1], [2, 3]])).toEqual([
      { ids: [1], stage: 'load' },
      { ids: [3], stage: 'load' },
      { ids: [2], stage: 'refresh' },
    ]);
    expect(inStages([], [undefined])).toEqual([{ stage: 'load' }]);
  });
});

describe('a database that cannot be created', () => {
  const recorded = { name: 'app', owner: 'boss', encoding: 'UTF8', collate: 'xx_YY' } as DatabaseFacts;
  const answer = (code: string, message: string) =>
    new Error('a query failed', { cause: Object.assign(new Error(message), { code, severity: 'ERROR' }) });

  it.each([
    ['42501', 'must be able to SET ROLE "boss"', /GRANT "boss"/],
    ['42501', 'must be member of role "boss"', /GRANT "boss"/],
    ['42501', 'permission denied to create database', /CREATEDB/],
    ['25006', 'cannot execute CREATE DATABASE in a read-only transaction', /standby/],
    ['42809', 'invalid LC_COLLATE locale name: "xx_YY"', /locale xx_YY/],
    ['22023', 'encoding "UTF8" does not match locale "xx_YY"', /locale xx_YY/],
    ['53300', 'too many connections', undefined],
    ['42704', 'tablespace "x" does not exist', undefined],
  ])('has a hint only if the server gives the cause: %s %s', (state, message, hint) => {
    const error = createFailed(answer(state, message), recorded) as { code: string; message: string; hint?: string };
    expect(error.code).toBe('PG_RESTORE_FAILED');
    expect(error.message).toContain(message);
    if (hint) expect(error.hint).toMatch(hint);
    else expect(error.hint).toBeUndefined();
  });

  it('is PG_NO_SPACE if the disk is full, and other errors stay unchanged', () => {
    expect(createFailed(answer('53100', 'could not write file'), recorded)).toMatchObject({ code: 'PG_NO_SPACE' });
    const cut = new Error('closed');
    expect(createFailed(cut, recorded)).toBe(cut);
  });
});

describe('the log of a hostile helper', () => {
  const withLog = async (work: (log: FailureLog, file: Awaited<ReturnType<typeof open>>) => Promise<void>) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-log-'));
    const file = await open(path.join(directory, 'log'), 'w+');
    try {
      await work(new FailureLog(file), file);
    } finally {
      await file.close();
      await rm(directory, { recursive: true, force: true });
    }
  };

  it('is not read if it is endless', async () => {
    await withLog(async (log, file) => {
      await file.truncate(15e12);
      await expect(log.read()).rejects.toMatchObject({ code: 'PG_RESTORE_FAILED' });
      await expect(log.read()).rejects.toMatchObject({ code: 'PG_RESTORE_FAILED' });
    });
  });

  it('is read up to its end at the start of the read, although it grows', async () => {
    await withLog(async (_log, file) => {
      const line = 'pg_restore: error: first\n';
      await file.write(line);
      let reads = 0;
      const growing = {
        stat: () => file.stat(),
        async read(buffer: Buffer, offset: number, length: number, position: number) {
          if (++reads > 5) throw new Error('read on');
          await file.write(line, (await file.stat()).size);
          return file.read(buffer, offset, length, position);
        },
      };
      expect((await new FailureLog(growing as never).read()).others).toEqual(['first']);
    });
  });

  it('fails the restore if it has too many failures, and ends with the run', async () => {
    await withLog(async (log, file) => {
      await file.write('pg_restore: error: x\n'.repeat(25_000));
      await expect(log.read(AbortSignal.abort(new Error('stopped')))).rejects.toThrow('stopped');
      await expect(log.read()).rejects.toMatchObject({ code: 'PG_RESTORE_FAILED' });
    });
  });

  it('gives a short part of a message, and its hint', () => {
    const said = `pg_restore: error: ${'x'.repeat(9000)}\n${'more\n'.repeat(500)}HINT:  Look.\n`;
    const [words = ''] = parseFailures(said).others;
    expect(words.length).toBeLessThan(2100);
    expect(words).toMatch(/\(Look\.\)$/);
  });
});
