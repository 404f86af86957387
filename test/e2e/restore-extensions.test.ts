import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreResult } from '../../src/restore/context.ts';
import { postgres, Stack } from '../harness/stack.ts';

/**
 * Extensions in a restore in place. The image has hstore and pg_trgm. Small extensions with the same names and
 * requirements replace those that it lacks.
 */
describe('a restore in place of a database with extensions', () => {
  let stack: Stack;

  const inApp = (sql: string) => stack.psql(sql, { database: 'app' });

  /** An extension with some of its rows in the dump, like spatial_ref_sys of PostGIS. */
  const REFERENCE = `CREATE TABLE reference (id int PRIMARY KEY, v text); INSERT INTO reference VALUES (1, 'of the extension');
    SELECT pg_extension_config_dump('reference', 'WHERE id >= 1000');`;
  /** Can only be created in the database that cron.database_name names. */
  const CRON = `DO $$ BEGIN IF current_database() <> 'app' THEN
      RAISE EXCEPTION 'can only create extension in database app'; END IF; END $$;
    CREATE SCHEMA cron; CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, schedule text);
    ALTER TABLE cron.job ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON cron.job USING (true);
    SELECT pg_extension_config_dump('cron.job', ''); SELECT pg_extension_config_dump('cron.job_jobid_seq', '');`;
  /** Accepts rows only between the two calls, and only from one connection. */
  const TIMESCALE = `CREATE TABLE catalogue (id int PRIMARY KEY, pid int);
    SELECT pg_extension_config_dump('catalogue', '');
    CREATE FUNCTION timescaledb_pre_restore() RETURNS bool LANGUAGE plpgsql AS
      $$ BEGIN EXECUTE format('ALTER DATABASE %I SET timescaledb.restoring = ''on''', current_database()); RETURN true; END $$;
    CREATE FUNCTION timescaledb_post_restore() RETURNS bool LANGUAGE plpgsql AS
      $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET timescaledb.restoring', current_database());
        -- Its jobs wake up, and one of them has a retention of its own.
        IF to_regclass('public.metrics') IS NOT NULL THEN EXECUTE 'DELETE FROM public.metrics WHERE old'; END IF; RETURN true; END $$;
    CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF current_setting('timescaledb.restoring', true) IS DISTINCT FROM 'on' THEN RAISE EXCEPTION 'not restoring'; END IF;
      RETURN NEW; END $$;
    CREATE TRIGGER guard BEFORE INSERT ON catalogue FOR EACH ROW EXECUTE FUNCTION guard();`;

  async function install(name: string, sql: string): Promise<void> {
    const directory = '/usr/share/postgresql/17/extension';
    await stack.exec('db', ['sh', '-c', `cat > ${directory}/${name}--1.0.sql`], sql);
    await stack.exec(
      'db',
      ['sh', '-c', `cat > ${directory}/${name}.control`],
      "default_version = '1.0'\nrelocatable = false\n",
    );
  }

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, { environment: { POSTGRES_DB: 'app' }, command: ['postgres', '-c', 'fsync=off'] }),
      },
      receiver: false,
    });
    await install('reference', REFERENCE);
    await install('pg_cron', CRON);
    await install('timescaledb', TIMESCALE);
  });
  afterAll(() => stack?.destroy());

  async function restoreInPlace(): Promise<RestoreResult & { shown: string }> {
    expect((await stack.backup()).report).toMatchObject({ status: 'ok' });
    await inApp('CREATE TABLE later (i int)');
    const { stderr: shown } = await stack.lifeboat(
      'restore',
      'latest',
      'db.postgres',
      '--database',
      'app',
      '--dry-run',
    );
    const ran = await stack.lifeboat(
      ...['restore', 'latest', 'db.postgres', '--database', 'app', '--yes', '--no-safety', '--json'],
    );
    expect(ran.code, ran.stdout).toBe(0);
    expect(await inApp("SELECT to_regclass('public.later')")).toBe('');
    return { ...(JSON.parse(ran.stdout) as RestoreResult), shown };
  }

  it('restores their objects, dependent objects, and rows that users added to their tables', async () => {
    await inApp(
      `CREATE EXTENSION hstore; CREATE SCHEMA tools; CREATE EXTENSION pg_trgm SCHEMA tools; CREATE EXTENSION reference;
       INSERT INTO reference VALUES (1000, 'of a person');
       CREATE TABLE t (id int PRIMARY KEY, h hstore, v text); INSERT INTO t VALUES (1, 'a=>1', 'word');
       CREATE INDEX ON t USING gin (v tools.gin_trgm_ops); CREATE VIEW w AS SELECT h -> 'a' AS a FROM t`,
    );
    const look = `SELECT (SELECT string_agg(v, ',' ORDER BY id) FROM reference), (SELECT a FROM w),
        (SELECT string_agg(extname || nspname, ',' ORDER BY extname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace),
        (SELECT count(*) FROM pg_indexes WHERE tablename = 't')`;
    const before = await inApp(look);
    expect((await restoreInPlace()).warnings).toEqual([]);
    expect(await inApp(look)).toBe(before);
  });

  it('leaves out pg_cron, says so before and after, and restores everything else', async () => {
    await inApp("CREATE EXTENSION pg_cron; INSERT INTO cron.job (schedule) VALUES ('0 3 * * *')");
    const { shown, warnings, restored } = await restoreInPlace();
    expect(shown).toContain('pg_cron and its jobs are left out');
    expect(warnings).toEqual([expect.stringContaining('run CREATE EXTENSION pg_cron')]);
    expect(await inApp('SELECT a FROM w')).toBe('1');
    await inApp('CREATE EXTENSION pg_cron');
    const kept = restored[0]?.kept as string;
    expect(await stack.psql('SELECT schedule FROM cron.job', { database: kept })).toBe('0 3 * * *');
    await inApp('DROP EXTENSION pg_cron; DROP SCHEMA cron CASCADE').catch(() => undefined);
    await inApp('DROP EXTENSION IF EXISTS pg_cron');
  });

  it('calls TimescaleDB before and after, so that its catalogue is restored', async () => {
    await inApp("CREATE EXTENSION timescaledb; SET timescaledb.restoring = 'on'; INSERT INTO catalogue VALUES (1, 7)");
    await inApp('CREATE TABLE metrics AS SELECT true AS old; INSERT INTO metrics VALUES (false)');
    await restoreInPlace();
    expect(await inApp('SELECT pid FROM catalogue')).toBe('7');
    expect(await inApp("SELECT current_setting('timescaledb.restoring', true) IS DISTINCT FROM 'on'")).toBe('t');
    // The comparison comes before the second call, or the row would be missing.
    expect(await inApp('SELECT count(*) FROM metrics')).toBe('1');
  });

  it('names rows of extensions that the dump lacks, and says that subscriptions are restored disabled', async () => {
    await inApp('DROP EXTENSION timescaledb CASCADE; DROP TABLE metrics');
    await install('settings_of', 'CREATE TABLE settings_of_ext (k text)');
    await inApp("CREATE EXTENSION settings_of; INSERT INTO settings_of_ext VALUES ('of a person')");
    await inApp(
      "CREATE SUBSCRIPTION \"My sub\" CONNECTION 'host=nowhere password=canary' PUBLICATION p WITH (connect = false, slot_name = 'my_sub')",
    );
    const { warnings } = await restoreInPlace();
    expect(warnings).toEqual([
      expect.stringMatching(/subscription My sub is restored disabled.*ALTER SUBSCRIPTION "My sub" ENABLE/),
      expect.stringMatching(
        /public\.settings_of_ext, a table of extension settings_of, has 0 rows, the snapshot has 1/,
      ),
    ]);
    expect(await stack.psql('SELECT count(*) FROM pg_subscription WHERE subenabled')).toBe('0');
  });
});
