import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { RunReport } from '../../src/report/events.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import type { PostgresFacts } from '../../src/sources/postgres/facts/facts.ts';
import type { ManifestSource } from '../../src/store/objects/manifest.ts';
import { postgres, Stack, until, whileRuns } from '../harness/stack.ts';
import { askRestored } from './outcome.ts';

/** An index with an extension's function that relies on the search path (before Postgres 17). */
const EARTH = `CREATE EXTENSION cube; CREATE EXTENSION earthdistance;
  CREATE TABLE places (id int PRIMARY KEY, lat float8, lng float8);
  CREATE INDEX ON places USING gist (ll_to_earth(lat, lng));
  INSERT INTO places VALUES (1, 52.5, 13.4), (2, 48.1, 11.6);
  CREATE TABLE plain (id int PRIMARY KEY); INSERT INTO plain SELECT generate_series(1, 7);`;

/** An index calls a function that was replaced, so planning any query on the table fails, with any search path. */
const BROKEN_INDEX = `CREATE FUNCTION helper(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
  CREATE FUNCTION key(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.helper($1)';
  CREATE TABLE broken (id int); INSERT INTO broken SELECT generate_series(1, 5);
  CREATE INDEX ON broken (key(id)); DROP FUNCTION helper(int);
  CREATE TABLE parents (id int PRIMARY KEY); CREATE TABLE children (parent int REFERENCES parents);
  SET session_replication_role = replica; INSERT INTO children VALUES (1);`;

const db = postgres(15);

/** Above 64 MiB: such databases are dumped first. */
const BIG = `CREATE TABLE big (id int, v text); ALTER TABLE big ALTER v SET STORAGE plain;
  INSERT INTO big SELECT i, repeat('x', 4000) FROM generate_series(1, 20000) i;`;

/** Event triggers that record logins and new objects, and refuse agents. */
const EVENT_TRIGGERS = `CREATE TABLE seen (who text, what text);
  CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 5);
  CREATE MATERIALIZED VIEW sums AS SELECT sum(id) FROM t;
  CREATE FUNCTION see_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen VALUES (current_setting('application_name'), 'login');
    IF current_setting('application_name') LIKE 'lifeboat%' THEN RAISE 'nobody comes in'; END IF; END $$;
  CREATE FUNCTION see_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.seen VALUES (current_setting('application_name'), tg_tag); END $$;
  CREATE EVENT TRIGGER logins ON login EXECUTE FUNCTION see_login();
  CREATE EVENT TRIGGER ddl ON ddl_command_end EXECUTE FUNCTION see_ddl();
  ALTER EVENT TRIGGER logins ENABLE ALWAYS; ALTER EVENT TRIGGER ddl ENABLE ALWAYS;`;

/** An index whose function takes 100 ms for each of 160 rows. It was created before the function was replaced. */
const SLOW_INDEX = `CREATE FUNCTION key(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
  CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 160); CREATE INDEX ON t (key(id));
  CREATE OR REPLACE FUNCTION key(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    'DECLARE until timestamptz := clock_timestamp() + interval ''100 ms'';
     BEGIN WHILE clock_timestamp() < until LOOP END LOOP; RETURN $1; END';`;

function ended(child: ChildProcess): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [stdout, stderr]: [string[], string[]] = [[], []];
  child.stdout?.on('data', (chunk: Buffer) => stdout.push(String(chunk)));
  child.stderr?.on('data', (chunk: Buffer) => stderr.push(String(chunk)));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout: stdout.join(''), stderr: stderr.join('') }));
  });
}

describe('one fault in a server', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ services: { db } });
    for (const name of ['earth', 'app', 'blog']) await stack.psql(`CREATE DATABASE ${name}`);
    await stack.psql(EARTH, { database: 'earth' });
    await stack.psql('CREATE DATABASE bare');
    await stack.psql('CREATE EXTENSION cube', { database: 'bare' });
    await stack.psql(BROKEN_INDEX, { database: 'blog' });
    await stack.psql('CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)', { database: 'app' });
  });
  afterAll(() => stack?.destroy());

  const facts = async (snapshot: string): Promise<{ entry: ManifestSource; databases: PostgresFacts['databases'] }> => {
    const { stdout } = await stack.lifeboat('show', snapshot, 'db.postgres', '--json');
    const { facts: read, ...entry } = JSON.parse(stdout) as ManifestSource & { facts: PostgresFacts };
    return { entry: entry as ManifestSource, databases: read.databases };
  };
  const result = (report: RunReport) => report.results.find(({ name }) => name === 'db.postgres');

  it('is no failure if it only prevents counting rows', async () => {
    const { code, report, stderr } = await stack.backup();
    expect(code, JSON.stringify(report, null, 1) + stderr).toBe(0);
    const { entry, databases } = await facts(report.snapshot ?? '');
    const counted = databases.flatMap(({ tables }) =>
      tables.map(({ name, exact, rows }) => [name, exact ? rows : 'not counted']),
    );
    expect(Object.fromEntries(counted)).toEqual({
      parents: 0,
      children: 1,
      places: 2,
      plain: 7,
      broken: 'not counted',
      t: 10,
    });
    const fragile = (object: string, why: string) =>
      expect.stringMatching(
        new RegExp(`^database .*: index ${object} is stored, and a restore may fail to build it: .*${why}`),
      );
    expect(result(report)?.warnings).toEqual([
      fragile('public.broken_key_idx', 'public.helper.integer. does not exist'),
      'database blog: rows of public.children reference missing rows of public.parents, so a restore will fail to create the foreign key children_parent_fkey: correct or delete them',
      expect.stringMatching(
        /^database blog: 1 table not counted, .*public\.broken \(function public\.helper\(integer\) does not exist\)$/,
      ),
      fragile('public.places_ll_to_earth_idx', 'type "earth" does not exist.*SET search_path = public'),
    ]);
    expect(entry.databases?.map(({ name, status }) => [name, status])).toEqual(
      ['app', 'bare', 'blog', 'earth', 'postgres'].map((name) => [name, 'ok']),
    );
  });

  it('affects no other database: one is dropped during the run, one is damaged, one does not exist', async () => {
    const whole = (await stack.backup()).report.snapshot ?? '';
    for (const name of ['big', 'doomed']) await stack.psql(`CREATE DATABASE ${name}`);
    await stack.psql('CREATE DATABASE archive ALLOW_CONNECTIONS false');
    await stack.psql(BIG, { database: 'big' });
    const file = await stack.psql("CHECKPOINT; SELECT pg_relation_filepath('t')", { database: 'app' });
    await stack.exec('db', ['rm', `/var/lib/postgresql/data/${file.trim().split('\n').at(-1)}`]);
    // Its dump waits. The small databases, which were listed earlier, are dumped later.
    const lock = stack.psql('BEGIN; LOCK TABLE big; SELECT pg_sleep(600)', { database: 'big' }).catch(String);
    const held = "FROM pg_locks WHERE relation = 'big'::regclass AND mode = 'AccessExclusiveLock' AND granted";
    const waits = "FROM pg_locks WHERE relation = 'big'::regclass AND NOT granted";
    const any = (from: string) => async () => (await stack.psql(`SELECT 1 ${from}`, { database: 'big' })) !== '';
    await until('the table is locked', any(held));
    const running = stack.backup();
    await whileRuns(running, until('the dump waits', any(waits)));
    await stack.psql('DROP DATABASE doomed');
    await stack.psql(`SELECT pg_terminate_backend(pid) ${held}`, { database: 'big' });
    await lock;
    const { code, report, stderr } = await running;
    const told = JSON.stringify(report, null, 1) + stderr;
    expect([code, report.status], told).toEqual([3, 'partial']);
    const { entry, databases } = await facts(report.snapshot ?? '');
    expect(databases.map(({ name }) => name)).toEqual(['bare', 'big', 'blog', 'earth', 'postgres']);
    expect(
      entry.databases?.filter(({ status }) => status === 'failed').map(({ name, error }) => [name, error?.code]),
    ).toEqual([
      ['app', 'PG_DUMP_FAILED'],
      ['doomed', 'PG_DATABASE_UNKNOWN'],
    ]);
    // It does not affect the rest of the run, and retention keeps the last snapshot that held it.
    expect(entry.databases?.filter(({ status }) => status === 'closed').map(({ name }) => name)).toEqual(['archive']);
    expect(result(report)?.error, told).toMatchObject({
      code: 'PG_DUMP_FAILED',
      message: expect.stringMatching(/^2 of 7 databases are not stored: app \(.*\), doomed \(.*\)$/),
      hint: expect.stringContaining(`Snapshot ${whole} is the last that holds app. No snapshot holds doomed.`),
    });
    const failed = (stack.receiver?.requests ?? []).filter(({ path }) => path.endsWith('/fail'));
    expect(failed.at(-1)?.body).toContain('doomed');
    // No incomplete dump is stored as a complete one.
    const files = await stack.lifeboat('show', report.snapshot ?? '', 'db.postgres', 'databases/*', '--json');
    expect(files.stdout).not.toMatch(/databases\/(app|doomed)/);

    // Each database is restored from the newest snapshot that holds it.
    const ask = 'SELECT count(*) FROM t';
    expect(await askRestored(stack, 'latest', 'app', ask)).toBe('10');
    expect(await askRestored(stack, 'latest', 'bare', "SELECT count(*) FROM pg_extension WHERE extname = 'cube'")).toBe(
      '1',
    );
    expect(await askRestored(stack, 'latest', 'big', 'SELECT count(*) FROM big')).toBe('20000');
    // For all of them, the user chooses, because the last complete snapshot would also revert the others.
    const all = await stack.lifeboat('restore', 'latest', 'db.postgres', '--dry-run', '--json');
    expect([all.code, all.stdout]).toEqual([1, expect.stringContaining('SNAPSHOT_PARTIAL')]);
    expect(all.stdout).toContain(`restores app from ${whole}`);
    const chosen = await stack.lifeboat('restore', report.snapshot ?? '', 'db.postgres', '--dry-run');
    expect([chosen.code, chosen.stdout + chosen.stderr]).toEqual([0, expect.stringContaining('big')]);
    const shown = await stack.lifeboat('status');
    expect([shown.code, shown.stdout]).toEqual([
      3,
      expect.stringContaining(`Snapshot ${whole} is the last that holds app.`),
    ]);
    expect((await stack.lifeboat('snapshots')).stdout).toContain('db.postgres (without app, doomed)');
  });

  it('affects no database if it is only in the roles', async () => {
    const inBare = (sql: string) => stack.psql(sql, { database: 'bare' });
    await stack.psql('CREATE ROLE leaver; CREATE ROLE stayer');
    await inBare('CREATE TABLE shared (id int); GRANT SELECT ON shared TO leaver, stayer; CREATE SCHEMA s');
    // Only pg_dumpall reads it.
    const rename = (from: string, to: string) =>
      stack.psql(`SET allow_system_table_mods = on; ALTER TABLE pg_catalog.${from} RENAME TO ${to}`);
    await rename('pg_parameter_acl', 'pg_parameter_acl_gone');
    const { code, report } = await stack.backup();
    await rename('pg_parameter_acl_gone', 'pg_parameter_acl');
    const told = JSON.stringify(report, null, 1);
    expect([code, report.status], told).toEqual([3, 'partial']);
    const { entry } = await facts(report.snapshot ?? '');
    expect(entry.databases?.find(({ name }) => name === 'bare')?.status).toBe('ok');
    expect(entry.withoutGlobals?.message, told).toMatch(/^roles and tablespaces are not stored: .*/);
    expect(told).toContain('roles and tablespaces are not stored');
    await inBare('DROP OWNED BY leaver');
    await stack.psql('DROP ROLE leaver');
    const args = ['restore', 'latest', 'db.postgres', '--database', 'bare', '--to-database', 'bare_then', '--json'];
    const ran = await stack.lifeboat(...args);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const restored = JSON.parse(ran.stdout) as RestoreResult;
    expect(restored.warnings).toEqual([
      expect.stringMatching(/^the snapshot has no roles, and the server lacks leaver: create them with CREATE ROLE/),
      expect.stringMatching(/lacks roles that had rights in it \(leaver\), so their rights on 1 object are left out/),
    ]);
    const stays = "SELECT has_table_privilege('stayer', 'shared', 'SELECT')";
    expect(await stack.psql(stays, { database: 'bare_then' })).toBe('t');
    // A drill creates the roles that objects name, so that it proves all but the roles.
    const drill = await stack.lifeboatInTurn('drill', 'db.postgres', '--snapshot', report.snapshot ?? '', '--json');
    const [result] = (JSON.parse(drill.stdout) as DrillReport).results;
    // These two have broken indexes, so that no server can restore them whole.
    const failed = result?.checks.flatMap(({ result: how, of }) => (how === 'failed' ? [of] : []));
    expect(failed?.sort(), drill.stdout).toEqual(['blog', 'earth']);
    const roles = result?.checks.find(({ name }) => name === 'roles');
    expect(roles).toMatchObject({ result: 'skipped', detail: 'the snapshot has no roles' });
  });

  it('makes a single worker dump if another session waits for a lock on a table that a second worker needs', async () => {
    const inBig = (sql: string) => stack.psql(sql, { database: 'big' });
    await inBig('CREATE TABLE rotated (id int); CREATE TABLE gate (id int)');
    const locks = (relation: string, mode: string, granted: boolean) =>
      `FROM pg_locks WHERE relation = '${relation}'::regclass AND mode = '${mode}' AND ${granted ? '' : 'NOT '}granted`;
    const any = (from: string) => async () => (await inBig(`SELECT 1 ${from} LIMIT 1`)) !== '';
    const gate = inBig('BEGIN; LOCK TABLE gate; SELECT pg_sleep(600)').catch(String);
    const held = locks('gate', 'AccessExclusiveLock', true);
    await until('the gate is locked', any(held));
    const running = stack.backup();
    // The dump has locked the lower table, and waits for the gate.
    await whileRuns(running, until('the dump waits', any(locks('gate', 'AccessShareLock', false))));
    const truncate = 'DO $$ BEGIN LOOP TRUNCATE rotated; COMMIT; END LOOP; END $$';
    const rotation = inBig(truncate).catch(String);
    const queued = locks('rotated', 'AccessExclusiveLock', false);
    await whileRuns(running, until('a TRUNCATE waits', any(queued)));
    await inBig(`SELECT pg_terminate_backend(pid) ${held}`);
    await gate;
    const { report, stderr } = await running;
    await inBig(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'DO $$ BEGIN LOOP%'`);
    await rotation;
    const { entry } = await facts(report.snapshot ?? '');
    const status = entry.databases?.find(({ name }) => name === 'big')?.status;
    expect(status, JSON.stringify(report, null, 1) + stderr).toBe('ok');
    expect((await stack.logs('lifeboat')) + stderr).toContain('dumping again, with one worker');
  });

  it('stores a standby, without the rows of its unlogged tables, which it names', async () => {
    await stack.psql('CREATE UNLOGGED TABLE cache (id int); INSERT INTO cache VALUES (1)', { database: 'big' });
    await stack.exec('db', ['sh', '-c', 'echo "host replication all all trust" >>"$PGDATA/pg_hba.conf"']);
    await stack.psql('SELECT pg_reload_conf()');
    await stack.write({ services: { db, standby } });
    await stack.compose('up', '--detach', '--wait', 'standby');
    const { code, report, stderr } = await stack.backup('standby.postgres');
    expect(code, JSON.stringify(report, null, 1) + stderr).toBe(3);
    const [found] = report.results;
    expect(found?.error?.message).toMatch(/^database app is not stored/);
    expect(found?.warnings).toContainEqual(
      expect.stringMatching(/^database big: this server is a standby, .* 1 table stored empty: public\.cache$/),
    );
    const shown = await stack.json<{ facts: PostgresFacts }>('show', report.id, 'standby.postgres');
    const tables = shown.facts.databases.find(({ name }) => name === 'big')?.tables ?? [];
    expect(tables.map(({ name, exact, data, rows }) => [name, data ?? (exact ? rows : 'not counted')])).toEqual([
      ['big', 20000],
      ['cache', false],
      ['gate', 0],
      ['rotated', 0],
    ]);
  });
});

/** A standby of `db`. */
const standby = {
  ...db,
  user: 'postgres',
  entrypoint: [
    'bash',
    '-c',
    'chmod 700 $$PGDATA; until pg_basebackup --checkpoint fast -h db -U postgres -D $$PGDATA -R; do sleep 0.2; done; exec postgres',
  ],
};

describe('a server with code that runs in every session', () => {
  let stack: Stack;

  beforeAll(async () => {
    const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.databases': 'app,slow,moulds' };
    stack = await Stack.start({ services: { db: postgres(17, { labels }) }, receiver: false });
    await stack.psql('CREATE DATABASE moulds IS_TEMPLATE true');
    await stack.psql('CREATE TABLE mould (id int); INSERT INTO mould VALUES (7)', { database: 'moulds' });
    await stack.psql('CREATE DATABASE app');
    await stack.psql('CREATE DATABASE slow');
  });
  afterAll(() => stack?.destroy());

  it('fires no event triggers in sessions of Lifeboat, at login and during a restore', async () => {
    await stack.psql(EVENT_TRIGGERS, { database: 'app' });
    const { code, report, stderr } = await stack.backup();
    expect(code, JSON.stringify(report, null, 1) + stderr).toBe(0);
    const restored = await stack.lifeboat(
      'restore',
      report.id,
      'db.postgres',
      '--database',
      'app',
      '--to-database',
      'copy',
    );
    expect(restored.code, restored.stderr).toBe(0);
    const again = await stack.lifeboat('restore', report.id, 'db.postgres', '--database', 'app', '--yes', '--no-stop');
    expect(again.code, again.stderr).toBe(0);
    // Only sessions and objects of the test harness were recorded.
    expect(await stack.psql("SELECT count(*) FROM seen WHERE who LIKE 'lifeboat%'", { database: 'app' })).toBe('0');
  });

  it('ends no statement by a timeout of a database or role, and keeps its own role', async () => {
    const timeouts = ['statement', 'lock', 'idle_in_transaction_session', 'idle_session', 'transaction'];
    const each = (what: string, value: string) => timeouts.map((name) => `ALTER ${what} ${name}_timeout = ${value};`);
    const sql = (statements: string[]) => {
      const options = timeouts.map((name) => `-c ${name}_timeout=0`).join(' ');
      const psql = ['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-U', 'postgres', '-f', '-'];
      return stack.exec('db', ['env', `PGOPTIONS=${options}`, ...psql], statements.join('\n'));
    };
    await sql([
      ...each('DATABASE app SET', '1'),
      'CREATE ROLE lowly NOLOGIN; ALTER DATABASE app SET role = lowly;',
      'ALTER DATABASE app SET default_transaction_read_only = on;',
      ...each('ROLE postgres SET', '1'),
    ]);
    try {
      const { code, report, stderr } = await stack.backup();
      expect(code, JSON.stringify(report, null, 1) + stderr).toBe(0);
      const plan = await stack.lifeboat('plan');
      expect(plan.code, plan.stdout).toBe(0);
      const ran = await stack.lifeboat('restore', report.id, 'db.postgres', '--database', 'app', '--yes', '--no-stop');
      expect(ran.code, ran.stderr).toBe(0);
    } finally {
      await sql(['ALTER DATABASE app RESET ALL; ALTER ROLE postgres RESET ALL; DROP ROLE lowly;']);
    }
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
  });

  it('may run one statement of a restore for longer than the stall timeout', async () => {
    await stack.psql(SLOW_INDEX, { database: 'slow' });
    const { report } = await stack.backup();
    await stack.psql('DROP DATABASE slow');
    const settings = { LIFEBOAT_STALL_TIMEOUT: '10s' };
    const restore = stack.spawnWith(settings, 'restore', report.id, 'db.postgres', '--database', 'slow', '--json');
    const ran = await ended(restore);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    // The statement took longer than that.
    const { steps } = JSON.parse(ran.stdout) as { steps: { name: string; durationMs: number }[] };
    expect(steps.find(({ name }) => name === 'build')?.durationMs).toBeGreaterThan(13_000);
  });

  it('gets a template back as a template, with notes about the configuration of the server', async () => {
    await stack.psql("ALTER SYSTEM SET work_mem = '7MB'");
    await stack.psql("ALTER ROLE ALL SET maintenance_work_mem = '70MB'");
    await stack.psql("ALTER SYSTEM SET archive_command = 'copy --password=hunter2'");
    const { report } = await stack.backup();
    await stack.psql('ALTER SYSTEM RESET ALL');
    await stack.psql('ALTER ROLE ALL RESET ALL');
    const shown = await stack.lifeboat('show', report.id, 'db.postgres', '--json');
    expect(shown.stdout).not.toContain('hunter2');
    const ran = await stack.lifeboat('restore', report.id, 'db.postgres', '--database', 'moulds', '--yes', '--no-stop');
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stderr).toContain(
      'settings from ALTER SYSTEM that this one lacks: archive_command (its value is not recorded); work_mem = 7MB',
    );
    expect(ran.stderr).toContain('settings from ALTER ROLE ALL that this one lacks: maintenance_work_mem = 70MB');
    const templates = "SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE 'moulds%' ORDER BY 1";
    expect((await stack.psql(templates)).split('\n')).toEqual(['moulds', expect.stringMatching(/^moulds__before_/)]);
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(await stack.psql(templates)).toBe('moulds');
    expect(await stack.psql('SELECT id FROM mould', { database: 'moulds' })).toBe('7');
  });

  it('is reported if its data directory was created again, and the earlier snapshot stays until that is accepted', async () => {
    const { report } = await stack.backup();
    await stack.compose('rm', '--stop', '--force', '--volumes', 'db');
    await stack.compose('up', '--detach', '--wait', 'db');
    for (const name of ['app', 'slow', 'moulds']) await stack.psql(`CREATE DATABASE ${name}`);
    const fell = async () => {
      const run = await stack.backup();
      return run.report.results.map(({ warnings, fell }) => ({ fell, warnings: warnings.join() }));
    };
    const why = expect.arrayContaining([expect.stringContaining('another server')]);
    const found = { fell: { since: report.snapshot, why }, warnings: expect.stringContaining('another server') };
    expect(await fell()).toMatchObject([found]);
    // The next runs say so again, until somebody accepts it.
    expect(await fell()).toMatchObject([{ fell: { ...found.fell, at: expect.any(String) } }]);
    const kept = new RegExp(`another server.*\\n.*lifeboat restore ${report.snapshot} db\\.postgres`);
    expect((await stack.lifeboat('status')).stdout).toMatch(kept);
    expect((await stack.lifeboat('accept', 'db.postgres')).code).toBe(0);
    expect((await stack.lifeboat('status')).stdout).not.toMatch(kept);
    expect(await fell()).toEqual([{ fell: undefined, warnings: expect.not.stringContaining('another server') }]);
  });
});
