import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreResult } from '../../src/restore/context.ts';
import { postgres, type Ran, Stack } from '../harness/stack.ts';

/** Dumps that `pg_restore` cannot restore unchanged: Lifeboat restores as much as possible, and names the rest. */
describe('a restore of objects that the server refuses', () => {
  let stack: Stack;
  let backupWarnings: readonly string[];
  const moved = (sql: string) => stack.psql(sql, { database: 'moved' });
  const broken = (sql: string) => stack.psql(sql, { database: 'broken' });
  const restore = (...args: string[]) =>
    stack.lifeboat('restore', 'latest', 'db.postgres', '--yes', '--no-safety', '--json', ...args);
  const result = ({ stdout }: Ran) => JSON.parse(stdout) as RestoreResult;

  /** Rows whose partition depends on OIDs. pg_dump handles plain enums and domains, but not types that contain them. */
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

  /** Functions that find their tables through the search_path of the caller. */
  const UNQUALIFIED = `CREATE SCHEMA own; CREATE TABLE own.limits (m int); INSERT INTO own.limits VALUES (100);
    CREATE FUNCTION own.below(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE SET search_path = own AS
      $$ BEGIN RETURN $1 < (SELECT m FROM limits); END $$;
    CREATE FUNCTION own.scaled(int) RETURNS int LANGUAGE plpgsql IMMUTABLE SET search_path = own AS
      $$ BEGIN RETURN $1 * (SELECT m FROM limits); END $$;
    CREATE TABLE checked (id int CHECK (own.below(id)), scaled int GENERATED ALWAYS AS (own.scaled(id)) STORED, v text);
    INSERT INTO checked (id, v) VALUES (1, 'canary row');
    CREATE INDEX checked_below ON checked (own.below(id));
    CREATE MATERIALIZED VIEW summary AS SELECT own.below(1) AS yes;
    ALTER FUNCTION own.below(int) RESET search_path; ALTER FUNCTION own.scaled(int) RESET search_path;`;

  /** Content that depends on the name of the database, which is another one while a restore builds it. */
  const NAMED = `CREATE FUNCTION whose() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.current_database()::text';
    CREATE TABLE names (id int, db text GENERATED ALWAYS AS (public.whose()) STORED); INSERT INTO names VALUES (1);
    CREATE INDEX names_moved ON names (id) WHERE public.whose() = 'moved';
    CREATE MATERIALIZED VIEW own_names AS SELECT 1 AS i WHERE current_database() = 'moved';
    CREATE MATERIALIZED VIEW above_names AS SELECT i FROM own_names;`;

  /** Rows that were inserted while constraints were not checked. */
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

  /** A partition on another server. Rows whose place depends on OIDs would be routed into it. */
  const FAR_AWAY = `CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/var/run/postgresql', dbname 'plain');
    CREATE USER MAPPING FOR postgres SERVER far OPTIONS (user 'postgres');
    DO $$ BEGIN EXECUTE 'CREATE TYPE st AS ENUM (' || (SELECT string_agg(quote_literal('l' || i), ',') FROM generate_series(1, 64) i) || ')'; END $$;
    CREATE TABLE o (s st) PARTITION BY HASH (s);
    CREATE TABLE o0 PARTITION OF o FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    INSERT INTO o0 SELECT s FROM unnest(enum_range(NULL::st)) s WHERE satisfies_hash_partition('o'::regclass, 2, 0, s);
    CREATE FOREIGN TABLE o1 PARTITION OF o FOR VALUES WITH (MODULUS 2, REMAINDER 1) SERVER far OPTIONS (table_name 'remote');
    CREATE TABLE r (i int) PARTITION BY RANGE (i); CREATE TABLE r0 PARTITION OF r FOR VALUES FROM (0) TO (10); INSERT INTO r VALUES (1), (2);
    CREATE FOREIGN TABLE r1 PARTITION OF r FOR VALUES FROM (10) TO (20) SERVER far OPTIONS (table_name 't');
    CREATE FUNCTION quiet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER quiet AFTER INSERT ON r FOR EACH ROW EXECUTE FUNCTION quiet();
    ALTER FOREIGN TABLE r1 DISABLE TRIGGER quiet;`;

  /** Rows that constraints of their tables refuse, and many dependent objects. */
  const REFUSING = `CREATE TABLE nulls (id int, v text CONSTRAINT short CHECK (length(v) < 9), UNIQUE (v)); INSERT INTO nulls VALUES (NULL, 'a'), (2, 'b');
    CREATE TABLE keyed (id int PRIMARY KEY, n int); INSERT INTO keyed VALUES (1, NULL), (2, 2);
    CREATE TABLE refers (k int REFERENCES keyed); INSERT INTO refers VALUES (1), (2);
    CREATE TABLE parts (y int, v int, PRIMARY KEY (y)) PARTITION BY RANGE (y);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10); CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
    INSERT INTO parts VALUES (1, 1), (2, NULL), (11, 1);
    ALTER TABLE parts ADD CONSTRAINT positive CHECK (v > 5) NOT VALID; COMMENT ON CONSTRAINT positive ON parts IS 'canary';
    CREATE TABLE elder (v int); CREATE TABLE younger (w int) INHERITS (elder); INSERT INTO younger VALUES (1, NULL), (NULL, NULL);
    ALTER TABLE elder ADD CONSTRAINT above CHECK (v > 5) NOT VALID;
    CREATE DOMAIN plain_domain AS int; CREATE DOMAIN filled AS int;
    CREATE TABLE domains (a plain_domain, b filled, c plain_domain[]); INSERT INTO domains VALUES (-1, NULL, '{-1}'), (1, 1, '{1}');
    ALTER DOMAIN plain_domain ADD CONSTRAINT above CHECK (VALUE > 0) NOT VALID;
    CREATE TABLE inputs (id int PRIMARY KEY, v varchar, at "char" DEFAULT 'x', r int GENERATED ALWAYS AS IDENTITY);
    INSERT INTO inputs (id, v) SELECT i, CASE WHEN i % 400 = 7 THEN 'canary too long' ELSE 'ok' END FROM generate_series(1, 1000) i;
    CREATE FUNCTION same(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
    CREATE TABLE computed (a int, "r $lifeboat$" int GENERATED ALWAYS AS (same(a)) STORED); INSERT INTO computed VALUES (1), (5);
    CREATE OR REPLACE FUNCTION same(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
      $$ BEGIN IF $1 = 5 THEN RAISE EXCEPTION 'no five'; END IF; RETURN $1; END $$;
    CREATE EXTENSION cube; CREATE TABLE boxes AS SELECT cube(1) AS c;
    UPDATE pg_attribute SET atttypmod = 12 WHERE attrelid = 'inputs'::regclass AND attname = 'v';
    UPDATE pg_constraint SET convalidated = true; UPDATE pg_type SET typnotnull = true WHERE typname = 'filled';
    UPDATE pg_attribute SET attnotnull = true WHERE (attrelid::regclass::text, attname) IN
      (('nulls', 'id'), ('keyed', 'n'), ('parts', 'v'), ('parts_1', 'v'), ('parts_2', 'v'), ('elder', 'v'), ('younger', 'v'));`;

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          // An index that is built in parallel misses some of the rows.
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
    await stack.psql('CREATE TABLE remote (s text)', { database: 'plain' });
    await stack.psql(
      `CREATE INDEX broken_index ON t (i); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken_index'::regclass;
       CREATE COLLATION aged (provider = icu, locale = 'de'); CREATE TABLE sorted (v text COLLATE aged PRIMARY KEY);
       INSERT INTO sorted VALUES ('a'); UPDATE pg_collation SET collversion = '1' WHERE collname = 'aged'`,
      { database: 'plain' },
    );
    await stack.psql('CREATE DATABASE distant');
    await stack.psql(FAR_AWAY, { database: 'distant' });
    await moved(MOVING);
    await moved(UNQUALIFIED);
    await moved(NAMED);
    await stack.psql('CREATE TABLE information_schema.mine (i int)', { database: 'plain' });
    await moved(
      `SET max_parallel_maintenance_workers = 0; CREATE TABLE big WITH (parallel_workers = 2) AS
         SELECT i, md5(i::text) AS v FROM generate_series(1, 20000) i; CREATE INDEX big_v ON big (v)`,
    );
    await broken(ORPHANS);
    await stack.psql('CREATE DATABASE refusing');
    await stack.psql(REFUSING, { database: 'refusing' });
    await stack.exec('db', ['sh', '-c', 'mkdir /fast /gone /other && chown postgres /fast /gone /other']);
    await stack.psql("CREATE TABLESPACE fast LOCATION '/fast'");
    await stack.psql("CREATE TABLESPACE gone LOCATION '/gone'");
    await stack.psql("CREATE ROLE leaver; CREATE TABLESPACE other OWNER leaver LOCATION '/other'");
    await stack.psql('CREATE DATABASE spaced TABLESPACE fast');
    await stack.psql(
      `CREATE TABLE a (i int); CREATE TABLE b (i int) TABLESPACE gone; INSERT INTO b VALUES (1); CREATE INDEX b_i ON b (i) TABLESPACE other;
       CREATE TABLE c (i int PRIMARY KEY USING INDEX TABLESPACE other) TABLESPACE other; INSERT INTO c VALUES (1);
       CREATE INDEX b_gone ON b (i) TABLESPACE gone; CREATE MATERIALIZED VIEW m TABLESPACE other AS SELECT 1 AS i;
       CREATE TABLE d (i int) TABLESPACE pg_default`,
      { database: 'spaced' },
    );
    await stack.psql('CREATE TABLE stray (i int)', { database: 'template1' });
    const { report } = await stack.backup();
    expect(report.results[0]?.error, JSON.stringify(report)).toBeUndefined();
    expect(JSON.stringify(report)).toContain('template1 has tables (public.stray) and is not backed up');
    expect(JSON.stringify(report)).toContain('table information_schema.mine is in a schema of the system');
    backupWarnings = report.results[0]?.warnings ?? [];
    // From here on, the image lacks it, like an image of another vendor.
    await stack.exec('db', ['sh', '-c', 'rm "$(pg_config --sharedir)"/extension/cube*']);
    for (const database of ['moved', 'broken', 'plain'])
      await stack.psql('CREATE TABLE later AS SELECT 1 AS i', { database });
  });
  afterAll(() => stack?.destroy());

  it.each([
    ['a constraint', /^database moved: constraint checked_id_check of public\.checked .*own\.below\(.*limits/],
    ['a generated column', /^database moved: generated column public\.checked\.scaled .*own\.scaled\(.*limits/],
    ['an index', /^database moved: index public\.checked_below .*own\.below\(.*limits/],
    ['a materialized view', /^database moved: materialized view public\.summary .*own\.below\(.*limits/],
    ['an index that is not valid', /^database plain: index public\.broken_index is not valid/],
    ['a collation of another version', /^database plain: collation public\.aged .* was of 1: its 1 index .*REINDEX/],
  ])('is foreseen by the backup, which warns of %s', (_, warning) => {
    expect(backupWarnings).toContainEqual(expect.stringMatching(warning));
  });

  it('replaces each database that it can, and names the object that prevents another one', async () => {
    const ran = await restore();
    expect(ran.code, ran.stdout + ran.stderr).toBe(3);
    const report = result(ran);
    expect(report.status).toBe('partial');
    expect(report.restored.map(({ target }) => target)).toEqual(['moved', 'plain', 'spaced']);
    expect(report.failed).toMatchObject([
      { target: 'broken', error: { code: 'PG_RESTORE_FAILED' } },
      { target: 'distant', error: { code: 'PG_RESTORE_FAILED' } },
      { target: 'refusing', error: { code: 'PG_RESTORE_FAILED' } },
    ]);
    expect(report.error?.message).toMatch(
      /database broken cannot be restored whole: (fk constraint|index|rows) public\.(child|odd)/,
    );
    expect(report.error?.hint).toMatch(/--skip-failed restores .*--table restores single tables/);
    expect(report.steps).toContainEqual({ name: 'analyse', durationMs: expect.any(Number) });
    expect(ran.stdout).not.toContain('canary');
    expect(ran.stdout).not.toContain('4242');
    expect(await broken('SELECT i FROM later')).toBe('1');
    for (const database of ['moved', 'plain'])
      expect(await stack.psql("SELECT to_regclass('later')", { database })).toBe('');
    expect(await stack.psql("SELECT datname FROM pg_database WHERE datname LIKE '%restoring%'")).toBe('');
    expect(await stack.helpers()).toEqual([]);
  });

  it('restores rows that now belong in other partitions', async () => {
    const sums = `SELECT (SELECT count(*) FROM orders), (SELECT count(*) || ',' || max(id) FROM arrays), (SELECT count(*) FROM pairs),
      (SELECT count(*) FROM tree), (SELECT count(*) FROM tree_2), (SELECT count(*) FROM pg_class WHERE relname ~ 'aside')`;
    expect(await moved(sums)).toBe('100|100,100|100|100|50|0');
    expect(await moved("SELECT count(*) FROM orders WHERE s::text = 'a'")).toBe('25');
    expect(await moved("SELECT count(*) FROM arrays WHERE s = ARRAY['a']::st[]")).toBe('25');
  });

  it('restores objects with functions that need the search_path of the database, and leaves the functions unchanged', async () => {
    expect(await moved('SELECT v FROM checked')).toBe('canary row');
    expect(await moved('SELECT yes FROM summary')).toBe('t');
    expect(await moved("SELECT count(*) FROM pg_indexes WHERE indexname IN ('checked_below', 'big_v')")).toBe('2');
    expect(await moved("SELECT proconfig IS NULL FROM pg_proc WHERE proname = 'below'")).toBe('t');
  });

  it('computes again what depends on the name of the database', async () => {
    const content =
      'SELECT (SELECT count(*) FROM own_names), (SELECT count(*) FROM above_names), (SELECT db FROM names)';
    expect(await moved(content)).toBe('1|1|moved');
    const valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'names_moved'::regclass AND indisvalid";
    expect(await moved(valid)).toBe('1');
  });

  const paths = () =>
    moved(`SELECT string_agg(concat_ws(' ', proname, proconfig), ', ' ORDER BY proname) FROM pg_proc
            WHERE pronamespace = 'own'::regnamespace`);

  it('restores a single table that needs it', async () => {
    const table = ['restore', 'latest', 'db.postgres', '--database', 'moved', '--json', '--table', 'checked'];
    const before = await stack.exec('db', [
      'pg_dump',
      '-U',
      'postgres',
      '-d',
      'moved',
      '--table=checked',
      '--schema-only',
    ]);
    await moved('DROP TABLE checked');
    const ran = await stack.lifeboat(...table);
    expect([ran.code, result(ran).warnings], ran.stdout + ran.stderr).toEqual([0, []]);
    expect(await moved('SELECT scaled, v FROM checked')).toBe('100|canary row');
    const after = await stack.exec('db', [
      'pg_dump',
      '-U',
      'postgres',
      '-d',
      'moved',
      '--table=checked',
      '--schema-only',
    ]);
    const plain = (text: string) => text.replaceAll(/^\\(un)?restrict .*$/gm, '');
    expect(plain(after)).toBe(plain(before));
    expect(await paths()).toBe('below, scaled');
  });

  it('analyses the restored tables', async () => {
    const unanalysed =
      "SELECT string_agg(relname, ' ') FROM pg_class WHERE relkind IN ('r', 'm') AND oid >= 16384 AND reltuples < 0";
    expect(await moved(unanalysed)).toBe('');
    expect(await moved("SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'big'")).toBe('t');
  });

  it('can be rolled back for the replaced databases', async () => {
    // The last restore, of one table, cannot be rolled back. Without an id, it is the one that is meant.
    const refused = await stack.lifeboat('rollback', '--yes', '--json');
    expect([refused.code, result(refused).error?.code], refused.stdout).toEqual([2, 'NOT_CONFIRMED']);
    const id = /`lifeboat rollback (\S+)`/.exec(result(refused).error?.hint ?? '')?.[1] ?? '';
    const ran = await stack.lifeboat('rollback', id, '--yes', '--json');
    expect(ran.code, ran.stdout).toBe(0);
    expect(await stack.psql('SELECT i FROM later', { database: 'plain' })).toBe('1');
    expect(await moved('SELECT i FROM later')).toBe('1');
  });

  it('writes no row into another server, and attaches the partitions there as they were', async () => {
    const far = () =>
      stack.psql('SELECT (SELECT count(*) FROM remote), (SELECT count(*) FROM t)', { database: 'plain' });
    expect(await far()).toBe('0|50');
    const ran = await restore('--database', 'distant', '--skip-failed');
    expect(result(ran).skipped?.map(({ kind, name }) => `${kind} ${name}`)).toEqual(['rows public.o0']);
    expect(await far()).toBe('0|50');
    const partitions = `SELECT c.relname, pg_get_expr(relpartbound, c.oid), (SELECT tgenabled FROM pg_trigger WHERE tgrelid = c.oid)
      FROM pg_class c WHERE relispartition ORDER BY 1`;
    expect((await stack.psql(partitions, { database: 'distant' })).split('\n')).toEqual([
      'o0|FOR VALUES WITH (modulus 2, remainder 0)|',
      'o1|FOR VALUES WITH (modulus 2, remainder 1)|',
      'r0|FOR VALUES FROM (0) TO (10)|O',
      'r1|FOR VALUES FROM (10) TO (20)|D',
    ]);
    expect(await stack.psql('SELECT count(*) FROM r0', { database: 'distant' })).toBe('2');
    const table = await stack.lifeboat(
      ...['restore', 'latest', 'db.postgres', '--database', 'distant', '--table', 'r', '--as', 'r_copy', '--json'],
    );
    expect(table.code, table.stdout + table.stderr).toBe(0);
    await restore('--database', 'distant', '--table', 'o', '--as', 'o_copy');
    expect(await far()).toBe('0|50');
  });

  it('restores everything except refused objects with --skip-failed, and lists those', async () => {
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
    expect(shown.stderr).toMatch(/analysed 3 tables in \d/);
  });

  it('restores rows that constraints refuse with --skip-failed, and each constraint as far as the rows allow', async () => {
    const ran = await restore('--database', 'refusing', '--skip-failed');
    expect(ran.code, ran.stdout + ran.stderr).toBe(3);
    const refusing = (sql: string) => stack.psql(sql, { database: 'refusing' });
    expect(
      await refusing(`SELECT (SELECT count(*) FROM nulls), (SELECT count(*) FROM keyed), (SELECT count(*) FROM refers),
        (SELECT count(*) FROM parts), (SELECT count(*) FROM younger), (SELECT count(*) FROM domains)`),
    ).toBe('2|2|2|3|2|2');
    const constraints = await refusing(`SELECT conname, convalidated FROM pg_constraint
      WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND conparentid = 0 ORDER BY conname, conrelid::regclass::text`);
    expect(constraints.split('\n')).toEqual([
      ...['above|f', 'above|f', 'above|f', 'inputs_pkey|t', 'keyed_pkey|t', 'nulls_v_key|t', 'parts_pkey|t'],
      ...['positive|f', 'positive|f', 'positive|f', 'refers_k_fkey|t', 'short|t'],
    ]);
    expect(
      await refusing(`SELECT string_agg(attrelid::regclass || '.' || attname, ' ' ORDER BY attrelid::regclass::text, attname) FROM pg_attribute JOIN pg_class r ON r.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND attnotnull`),
    ).toBe('inputs.id inputs.r keyed.id parts.y parts_1.y parts_2.v parts_2.y');
    expect(
      result(ran)
        .skipped?.map(({ kind, name }) => `${kind} ${name}`)
        .toSorted(),
    ).toEqual([
      ...['check constraint public.elder above', 'check constraint public.parts positive', 'comment EXTENSION cube'],
      ...['domain constraint public.filled', 'domain constraint public.plain_domain above', 'extension cube'],
      ...['elder.v', 'keyed.n', 'nulls.id', 'parts.v', 'parts_1.v', 'younger.v'].map(
        (name) => `not-null constraint public.${name}`,
      ),
      ...['rows public.boxes', 'rows public.computed', 'rows public.inputs', 'table public.boxes'],
    ]);
    expect(result(ran).skipped).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          name: 'public.nulls.id',
          statement: 'ALTER TABLE public.nulls ALTER COLUMN "id" SET NOT NULL',
          message: expect.stringMatching(/without it: column "id" of relation "nulls" contains null values/),
        }),
        expect.objectContaining({
          name: 'public.parts positive',
          statement: 'ALTER TABLE public.parts VALIDATE CONSTRAINT "positive"',
          message: expect.stringMatching(/new rows only: check constraint "positive" .* is violated/),
        }),
      ]),
    );
    expect(await refusing('SELECT (SELECT count(*) FROM inputs), count(*), min(id::int) FROM inputs__refused')).toBe(
      '997|3|7',
    );
    const shown = await stack.lifeboat(
      ...['restore', 'latest', 'db.postgres', '--database', 'refusing', '--to-database', 'shown', '--skip-failed'],
    );
    expect(shown.stderr).toMatch(
      /rows compared and equal; 1 table missing: public\.boxes; 4 rows missing in 2 tables: public\.computed, public\.inputs/,
    );
  });

  it('creates a tablespace if its directory exists, and does without it otherwise', async () => {
    // Old databases are in the same tablespaces.
    const all = await stack.psql("SELECT datname FROM pg_database WHERE datname LIKE 'spaced%'");
    for (const name of all.split('\n')) await stack.psql(`DROP DATABASE "${name}" WITH (FORCE)`);
    await stack.psql('DROP TABLESPACE fast');
    for (const name of ['gone', 'other']) await stack.psql(`DROP TABLESPACE ${name}`);
    await stack.psql('DROP ROLE leaver');
    await stack.exec('db', ['rmdir', '/gone']);
    const ran = await restore('--database', 'spaced');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(result(ran).warnings).toEqual([
      expect.stringMatching(
        /no tablespace gone, and it cannot be created: directory "\/gone" does not exist.*into the default tablespace: table public\.b, index public\.b_gone$/,
      ),
    ]);
    expect(await stack.psql('SELECT i FROM b', { database: 'spaced' })).toBe('1');
    const placed = `SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class r JOIN pg_tablespace t ON t.oid = reltablespace
       WHERE relnamespace = 'public'::regnamespace AND spcname = `;
    expect(await stack.psql(`${placed}'other'`, { database: 'spaced' })).toBe('b_i c c_pkey m');
    expect(await stack.psql(`${placed}'pg_default'`, { database: 'spaced' })).toBe('d');
    const where =
      "SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = 'spaced'";
    expect(await stack.psql(where)).toBe('fast');
  });

  it.each([
    ['does not find its tables', 'pg_catalog', 1],
    ['finds its tables', 'own, pg_temp', 0],
  ])('a live function keeps its own search_path, which %s, when a single table is restored', async (_, own, code) => {
    await moved(`ALTER FUNCTION own.below(int) SET search_path = ${own}; ALTER FUNCTION own.below(int) SET work_mem = '5MB';
      DROP TABLE IF EXISTS checked`);
    const before = await paths();
    expect(before).toContain(own);
    const ran = await stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'moved', '--table', 'checked');
    expect(ran.code, ran.stdout + ran.stderr).toBe(code);
    expect(await paths()).toBe(before);
  });
});
