import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreResult } from '../../src/restore/context.ts';
import { postgres, type Ran, Stack } from '../harness/stack.ts';

/** Dumps that `pg_restore` cannot bring back as they are: what can be restored is restored, the rest is named. */
describe('a restore of what the server refuses', () => {
  let stack: Stack;
  const moved = (sql: string) => stack.psql(sql, { database: 'moved' });
  const broken = (sql: string) => stack.psql(sql, { database: 'broken' });
  const restore = (...args: string[]) =>
    stack.lifeboat('restore', 'latest', 'db.postgres', '--yes', '--no-safety', '--json', ...args);
  const result = ({ stdout }: Ran) => JSON.parse(stdout) as RestoreResult;

  /** Rows whose place depends on OIDs: pg_dump takes care of plain enums and domains, and not of what contains them. */
  const MOVING = `CREATE TYPE st AS ENUM ('a', 'b', 'c', 'd'); CREATE DOMAIN st_domain AS st; CREATE TYPE pair AS (s st, i int);
    CREATE TABLE orders (id int, s st_domain) PARTITION BY HASH (s);
    CREATE TABLE arrays (id int GENERATED ALWAYS AS IDENTITY, s st[], twice int GENERATED ALWAYS AS (2) STORED) PARTITION BY HASH (s);
    CREATE TABLE pairs (id int, p pair) PARTITION BY HASH (p);
    CREATE TABLE tree (y int, s st) PARTITION BY RANGE (y);
    CREATE TABLE tree_1 PARTITION OF tree FOR VALUES FROM (0) TO (10) PARTITION BY HASH (s);
    CREATE TABLE tree_2 PARTITION OF tree FOR VALUES FROM (10) TO (20);
    DO $$ DECLARE t text; BEGIN FOR i IN 0..2 LOOP FOREACH t IN ARRAY ARRAY['orders', 'arrays', 'pairs', 'tree_1'] LOOP
      EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 3, REMAINDER %s)', t || '_' || i, t, i);
    END LOOP; END LOOP; END $$;
    INSERT INTO orders SELECT i, (enum_range(NULL::st))[1 + i % 4] FROM generate_series(1, 100) i;
    INSERT INTO arrays (s) SELECT ARRAY[(enum_range(NULL::st))[1 + i % 4]] FROM generate_series(1, 100) i;
    INSERT INTO pairs SELECT i, ROW((enum_range(NULL::st))[1 + i % 4], 1)::pair FROM generate_series(1, 100) i;
    INSERT INTO tree SELECT i % 20, (enum_range(NULL::st))[1 + i % 4] FROM generate_series(1, 100) i;`;

  /** Functions that find their tables by the search_path of whoever calls them. */
  const UNQUALIFIED = `CREATE SCHEMA own; CREATE TABLE own.limits (m int); INSERT INTO own.limits VALUES (100);
    CREATE FUNCTION own.below(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE SET search_path = own AS
      $$ BEGIN RETURN $1 < (SELECT m FROM limits); END $$;
    CREATE TABLE checked (id int CHECK (own.below(id)), v text); INSERT INTO checked VALUES (1, 'canary row');
    CREATE INDEX checked_below ON checked (own.below(id));
    CREATE MATERIALIZED VIEW summary AS SELECT own.below(1) AS yes;
    ALTER FUNCTION own.below(int) RESET search_path;`;

  /** What was let in while nobody looked. */
  const ORPHANS = `CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (p int REFERENCES parent, mail text);
    SET session_replication_role = replica; INSERT INTO child VALUES (4242, 'canary@example.org'); RESET session_replication_role;
    CREATE INDEX child_mail ON child (mail); INSERT INTO child VALUES (NULL, 'canary@example.org');
    UPDATE pg_index SET indisunique = true WHERE indexrelid = 'child_mail'::regclass;
    CREATE FUNCTION fine(int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE TABLE odd (v int CHECK (fine(v)));
    INSERT INTO odd VALUES (1); CREATE OR REPLACE FUNCTION fine(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 5';
    CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', dbname 'plain');
    CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres', password 'canary');
    CREATE FOREIGN TABLE far_t (i int) SERVER far OPTIONS (table_name 't');
    CREATE MATERIALIZED VIEW far_sum AS SELECT sum(i) FROM far_t;
    ALTER SERVER far OPTIONS (ADD port '1');`;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          // An index built in parallel finds too little of it.
          shm_size: '1200k',
          command: [
            'postgres',
            ...['-c', 'fsync=off', '-c', 'autovacuum=off', '-c', 'max_parallel_workers_per_gather=0'],
          ],
        }),
      },
      receiver: false,
    });
    await stack.psql('CREATE DATABASE moved');
    await stack.psql('CREATE DATABASE broken');
    await stack.psql('CREATE DATABASE plain');
    await stack.psql('CREATE TABLE t AS SELECT i FROM generate_series(1, 50) i', { database: 'plain' });
    await moved(MOVING);
    await moved(UNQUALIFIED);
    await moved(
      `SET max_parallel_maintenance_workers = 0; CREATE TABLE big WITH (parallel_workers = 2) AS
         SELECT i, md5(i::text) AS v FROM generate_series(1, 20000) i; CREATE INDEX big_v ON big (v)`,
    );
    await broken(ORPHANS);
    await stack.exec('db', ['sh', '-c', 'mkdir /fast /gone && chown postgres /fast /gone']);
    await stack.psql("CREATE TABLESPACE fast LOCATION '/fast'");
    await stack.psql("CREATE TABLESPACE gone LOCATION '/gone'");
    await stack.psql('CREATE DATABASE spaced TABLESPACE fast');
    await stack.psql('CREATE TABLE a (i int); CREATE TABLE b (i int) TABLESPACE gone; INSERT INTO b VALUES (1)', {
      database: 'spaced',
    });
    const { report } = await stack.backup();
    expect(report.results[0]?.error, JSON.stringify(report)).toBeUndefined();
    for (const database of ['moved', 'broken', 'plain'])
      await stack.psql('CREATE TABLE later AS SELECT 1 AS i', { database });
  });
  afterAll(() => stack?.destroy());

  it('replaces each database that it can, and names the object that keeps another one from it', async () => {
    const ran = await restore();
    expect(ran.code, ran.stdout + ran.stderr).toBe(3);
    const report = result(ran);
    expect(report.status).toBe('partial');
    expect(report.restored.map(({ target }) => target)).toEqual(['moved', 'plain', 'spaced']);
    expect(report.failed).toMatchObject([{ target: 'broken', error: { code: 'PG_RESTORE_FAILED' } }]);
    expect(report.error?.message).toMatch(
      /database broken cannot be restored whole: (fk constraint|index|rows) public\.(child|odd)/,
    );
    expect(report.error?.hint).toContain('--skip-failed');
    expect(ran.stdout).not.toContain('canary');
    expect(ran.stdout).not.toContain('4242');
    expect(await broken('SELECT i FROM later')).toBe('1');
    for (const database of ['moved', 'plain'])
      expect(await stack.psql("SELECT to_regclass('later')", { database })).toBe('');
    expect(await stack.psql("SELECT datname FROM pg_database WHERE datname LIKE '%restoring%'")).toBe('');
    expect(await stack.helpers()).toEqual([]);
  });

  it('brings back rows that belong into other partitions now', async () => {
    const sums = `SELECT (SELECT count(*) FROM orders), (SELECT count(*) || ',' || max(id) FROM arrays), (SELECT count(*) FROM pairs),
      (SELECT count(*) FROM tree), (SELECT count(*) FROM tree_2), (SELECT count(*) FROM pg_class WHERE relname ~ 'aside')`;
    expect(await moved(sums)).toBe('100|100,100|100|100|50|0');
    expect(await moved("SELECT count(*) FROM orders WHERE s::text = 'a'")).toBe('25');
    expect(await moved("SELECT count(*) FROM arrays WHERE s = ARRAY['a']::st[]")).toBe('25');
  });

  it('brings back what functions need the search_path of the database for, and leaves them as they were', async () => {
    expect(await moved('SELECT v FROM checked')).toBe('canary row');
    expect(await moved('SELECT yes FROM summary')).toBe('t');
    expect(await moved("SELECT count(*) FROM pg_indexes WHERE indexname IN ('checked_below', 'big_v')")).toBe('2');
    expect(await moved("SELECT proconfig IS NULL FROM pg_proc WHERE proname = 'below'")).toBe('t');
  });

  it('analyses what it restored', async () => {
    const unanalysed = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384 AND reltuples < 0";
    expect(await moved(unanalysed)).toBe('0');
    expect(await moved("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'big'")).toBe('t');
  });

  it('rolls back those that were replaced', async () => {
    const ran = await stack.lifeboat('rollback', '--yes', '--json');
    expect(ran.code, ran.stdout).toBe(0);
    expect(await stack.psql('SELECT i FROM later', { database: 'plain' })).toBe('1');
    expect(await moved('SELECT i FROM later')).toBe('1');
  });

  it('restores all but what the server refuses with --skip-failed, and lists that', async () => {
    const ran = await restore('--database', 'broken', '--skip-failed');
    expect(ran.code, ran.stdout + ran.stderr).toBe(3);
    const report = result(ran);
    expect(report).toMatchObject({ status: 'partial', canRollBack: true, error: { code: 'PG_RESTORE_FAILED' } });
    expect(report.skipped?.map(({ kind, name }) => `${kind} ${name}`).toSorted()).toEqual([
      'check constraint public.odd odd_v_check',
      'fk constraint public.child child_p_fkey',
      'index public.child_mail',
    ]);
    expect(report.skipped).toContainEqual(
      expect.objectContaining({
        database: 'broken',
        statement: expect.stringContaining('CREATE UNIQUE INDEX child_mail'),
        message: expect.stringContaining('could not create unique index'),
      }),
    );
    expect(report.warnings).toEqual([expect.stringMatching(/public\.far_sum .*REFRESH MATERIALIZED VIEW/)]);
    expect(ran.stdout).not.toContain('canary');
    expect(await broken("SELECT count(*), to_regclass('later') IS NULL FROM child")).toBe('2|t');
    expect(
      await broken("SELECT v, (SELECT convalidated FROM pg_constraint WHERE conname = 'odd_v_check') FROM odd"),
    ).toBe('1|f');
    const shown = await stack.lifeboat(
      ...['restore', 'latest', 'db.postgres', '--database', 'broken', '--to-database', 'b2', '--skip-failed'],
    );
    expect(shown.code, shown.stderr).toBe(3);
    expect(shown.stdout).toMatch(/left out: broken: index public\.child_mail: could not create unique index/);
  });

  it('makes a tablespace where its place exists, and does without one where it does not', async () => {
    // What a restore keeps is in the same tablespaces.
    const all = await stack.psql("SELECT datname FROM pg_database WHERE datname LIKE 'spaced%'");
    for (const name of all.split('\n')) await stack.psql(`DROP DATABASE "${name}" WITH (FORCE)`);
    await stack.psql('DROP TABLESPACE fast');
    await stack.psql('DROP TABLESPACE gone');
    await stack.exec('db', ['rmdir', '/gone']);
    const ran = await restore('--database', 'spaced');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(result(ran).warnings).toEqual([
      expect.stringMatching(/tablespace gone is not there and cannot be made: directory "\/gone" does not exist/),
    ]);
    expect(await stack.psql('SELECT i FROM b', { database: 'spaced' })).toBe('1');
    const where =
      "SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = 'spaced'";
    expect(await stack.psql(where)).toBe('fast');
  });
});
