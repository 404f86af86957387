import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { GATE, openGates, shutGate } from '../harness/gate.ts';
import { holder, ok, postgres, type Ran, Stack, until, whileRuns } from '../harness/stack.ts';

const CONTENT = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t";

/** Each row takes 20 ms to load, so that a test can disturb the load. */
const SLOW = `CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    LOOP
      PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
      EXIT WHEN NOT EXISTS (SELECT FROM pg_stat_activity WHERE query = '${GATE}');
    END LOOP;
    RETURN true;
  END $$;`;

/** While this runs, a restore waits after its swap, when it refreshes the view. */
const AFTER_SWAP = 'SELECT pg_sleep(300) AS after_swap';

const NAMED = `CREATE FUNCTION named() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    LOOP
      PERFORM pg_sleep(0.02), pg_stat_clear_snapshot();
      EXIT WHEN current_database() <> 'app' OR NOT EXISTS (SELECT FROM pg_stat_activity WHERE query = '${AFTER_SWAP}');
    END LOOP;
    RETURN current_database();
  END $$; CREATE MATERIALIZED VIEW named_now AS SELECT named() AS db;`;

const codeOf = ({ stdout }: Ran) => (JSON.parse(stdout || '{}') as { error?: ErrorInfo }).error?.code;

/** Returns the databases of the user on a server. */
const databases = async (stack: Stack, service: string) =>
  (
    await stack.psql('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE "C"', {
      service,
    })
  ).split('\n');

/** Starts a restore in place. Returns while it loads rows. */
async function begin(stack: Stack, service: string): Promise<{ ended: Promise<Ran> }> {
  const args = ['restore', 'latest', `${service}.postgres`, '--database', 'app', '--yes', '--no-safety', '--json'];
  const ended = stack.lifeboat(...args);
  const loading =
    "SELECT count(*) FROM pg_stat_activity WHERE datname LIKE 'app\\_\\_restoring%' AND query LIKE 'COPY%'";
  await whileRuns(
    ended,
    until('rows are loaded', async () => (await stack.psql(loading, { service })) !== '0'),
  );
  return { ended };
}

/** Faults of the server and of its other clients, during the restore of a database in use. */
describe('a restore in place that is disturbed', () => {
  let stack: Stack;
  let first: string;
  let changed: string;

  const inApp = (sql: string) => stack.psql(sql, { database: 'app' });
  const IN_PLACE = ['restore', 'latest', 'db.postgres', '--database', 'app', '--yes', '--no-safety', '--json'];
  const inPlace = (...more: string[]) => stack.lifeboat(...IN_PLACE, ...more);
  const session = async (sql: string, database = 'app') =>
    ok('docker', [
      ...['exec', '--detach', await stack.id('db'), 'psql', '-XqU', 'postgres', '-d', database],
      ...sql.split(';').flatMap((one) => ['-c', one]),
    ]);
  const rollBack = async () => {
    const ran = await stack.lifeboat('rollback', '--yes', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    expect(await inApp(CONTENT)).toBe(changed);
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes', '--json');
    expect(forgotten.code, forgotten.stdout).toBe(0);
    expect(await databases(stack, 'db')).toEqual(['app', 'postgres']);
  };

  const openRuns = async () => (await stack.exec('lifeboat', ['ls', '/spool/state/runs'])).trim();

  const signalRestore = (name: string) =>
    stack.exec('lifeboat', [
      ...['sh', '-c'],
      `for p in /proc/[0-9]*; do
        if tr '\\0' ' ' < $p/cmdline | grep -q 'cli[.]js restore '; then kill -${name} "\${p#/proc/}"; fi
      done 2>/dev/null; true`,
    ]);
  const readRecord = async () => {
    const key = (await stack.objects()).filter((name) => name.includes('/restores/')).at(-1) as string;
    return JSON.parse(await readFile(path.join(stack.directory, 'backups', key), 'utf8')) as RestoreReport;
  };

  /** Starts a restore in place that waits right after its swap. `open` lets it continue. */
  async function beginAndSwap(): Promise<{ ended: Promise<Ran>; pid: string; open(): Promise<unknown> }> {
    await session(AFTER_SWAP, 'postgres');
    const count = (query: string) => stack.psql(`SELECT count(*) FROM pg_stat_activity WHERE ${query}`);
    await until('the gate is shut', async () => (await count(`query = '${AFTER_SWAP}'`)) === '1');
    const ended = inPlace();
    const refreshing = () =>
      stack.psql("SELECT pid FROM pg_stat_activity WHERE datname = 'app' AND query LIKE 'REFRESH MATERIALIZED VIEW%'");
    let pid = '';
    const waits = async () => {
      pid = await refreshing();
      return pid !== '';
    };
    await whileRuns(ended, until('the view is refreshed after the swap', waits));
    const open = () =>
      stack.psql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '${AFTER_SWAP}'`);
    return { ended, pid, open };
  }

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app' },
          command: ['postgres', '-c', 'wal_level=logical', '-c', 'fsync=off'],
        }),
        web: holder(
          [],
          {},
          {
            depends_on: { db: { condition: 'service_healthy' }, old: { condition: 'service_healthy' } },
            healthcheck: { test: ['CMD', 'test', '!', '-e', '/tmp/sick'], interval: '1s', retries: 600 },
          },
        ),
        old: postgres(15, {
          environment: { POSTGRES_DB: 'app' },
          command: ['postgres', '-c', 'fsync=off', '-c', 'autovacuum=off'],
        }),
      },
      volumes: { spool: { driver_opts: { type: 'tmpfs', device: 'tmpfs', o: 'size=96m' } } },
      receiver: false,
    });
    await inApp(NAMED);
    await inApp(
      `${SLOW} CREATE TABLE t (id int PRIMARY KEY, v text, CHECK (slow(id))) WITH (autovacuum_enabled = off);
       INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 200) i;`,
    );
    await stack.psql("CREATE TABLE t AS SELECT i AS id, 'fifteen' AS v FROM generate_series(1, 5) i", {
      service: 'old',
      database: 'app',
    });
    first = await inApp(CONTENT);
    expect((await stack.backup()).report.status).toBe('ok');
    await inApp("UPDATE t SET v = 'changed' WHERE id < 4");
    changed = await inApp(CONTENT);
  });
  afterEach(() => openGates(stack));
  afterAll(() => stack?.destroy());

  it.each([
    ['restarted', ['restart', '--timeout', '2', 'db']],
    ['recreated', ['up', '--detach', '--wait', '--force-recreate', 'db']],
  ])('leaves the database unchanged if its server is %s, and the next restore works', async (_, command) => {
    // Closed until its server ends.
    await shutGate(stack);
    const { ended } = await begin(stack, 'db');
    await stack.compose(...command);
    const ran = await ended;
    expect(ran.code, ran.stdout).toBe(1);
    expect(['PG_UNREACHABLE', 'PG_RESTORE_FAILED', 'HELPER_FAILED', 'EXEC_FAILED', 'PG_STALLED']).toContain(
      codeOf(ran),
    );
    await until('the server is back', () => inApp('SELECT 1').catch(() => undefined));
    expect(await inApp(CONTENT)).toBe(changed);
    const again = await stack.lifeboatInTurn(...IN_PLACE);
    expect(again.code, again.stdout).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);
    expect((await databases(stack, 'db')).filter((name) => name.includes('__restoring'))).toEqual([]);
    expect(await stack.helpers()).toEqual([]);
    await rollBack();
  });

  it('continues while a session holds a lock, and says that it could not count', async () => {
    await session('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
    const locked = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock'";
    await until('the lock is held', async () => (await inApp(locked)) === '1');
    const shown = await stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--dry-run');
    expect(shown.stderr).toMatch(/would replace +app \(.*not counted, a session holds a lock\)/);
    const ran = await inPlace();
    expect(ran.code, ran.stdout).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);
    await rollBack();
  });

  it('that is killed after the swap is completed by the next command: content that depends on the name too', async () => {
    const { ended, pid, open } = await beginAndSwap();
    // Only Lifeboat can have analysed the table, because autovacuum leaves it out.
    expect(await inApp("SELECT count(*) FROM pg_stats WHERE tablename = 't'")).toBe('2');
    // The daemon recovers at each full minute. The state before is looked at first.
    const leftMs = 60_000 - (Date.now() % 60_000);
    if (leftMs < 10_000) await sleep(leftMs + 1000);
    await signalRestore('KILL');
    await ended;
    // The server does not notice the death of its client, and would complete the statement.
    await stack.psql(`SELECT pg_terminate_backend(${pid})`);
    await open();
    expect(await inApp('SELECT db FROM named_now')).toMatch(/^app__restoring/);
    const next = await stack.lifeboatInTurn('restore', 'no-such-snapshot', 'db.postgres', '--json');
    expect(next.stdout).toContain('SNAPSHOT_UNKNOWN');
    // The daemon may have begun the recovery first. The command then refuses the snapshot without waiting for its end.
    await until('the restore is completed', async () => (await openRuns()) === '');
    expect(await inApp('SELECT db FROM named_now')).toBe('app');
    expect(await inApp(CONTENT)).toBe(first);
    expect(await readRecord()).toMatchObject({ status: 'failed', canRollBack: true, error: { code: 'RUN_DIED' } });
    await rollBack();
  });

  it('whose spool is full after the swap is reported as restored, and can be rolled back', async () => {
    const { ended, open } = await beginAndSwap();
    // The journal gets empty lines up to the end of its last page, because a full tmpfs still takes bytes into a page.
    const fill = `for f in /spool/state/runs/*.ndjson; do
        head -c $((4096 - $(stat -c %s $f) % 4096)) /dev/zero | tr '\\0' '\\n' >> $f
      done; dd if=/dev/zero of=/spool/filler bs=4k 2>/dev/null; true`;
    await stack.exec('lifeboat', ['sh', '-c', fill]);
    await open();
    const ran = await ended;
    await stack.exec('lifeboat', ['rm', '/spool/filler']);
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const report = JSON.parse(ran.stdout) as RestoreResult;
    expect(report).toMatchObject({ status: 'ok', canRollBack: true, restored: [{ target: 'app' }] });
    expect(report.checks).toMatchObject([{ name: expect.stringContaining('web'), ok: true }]);
    const back = `the spool has no space left. The restored data is in place; \`lifeboat rollback ${report.id}\``;
    expect(report.warnings).toEqual([expect.stringContaining(back)]);
    expect(await inApp('SELECT db FROM named_now')).toBe('app');
    expect(await openRuns()).toBe('');
    await rollBack();
  });

  it('says that the data is in place if it is interrupted while it waits for a service', async () => {
    await stack.exec('web', ['touch', '/tmp/sick']);
    const ended = inPlace();
    const swapped = "SELECT count(*) FROM pg_database WHERE datname LIKE 'app\\_\\_before%'";
    await whileRuns(
      ended,
      until('the swap', async () => (await stack.psql(swapped)) === '1'),
    );
    await until('web is started', () =>
      stack.exec('web', ['true']).then(
        () => true,
        () => false,
      ),
    );
    await signalRestore('INT');
    const ran = await ended;
    expect({ code: ran.code, error: codeOf(ran) }, ran.stdout).toEqual({ code: 130, error: 'INTERRUPTED' });
    expect(ran.stdout).toMatch(/The restored data is in place, complete; `lifeboat rollback /);
    expect(await inApp(CONTENT)).toBe(first);
    expect(await readRecord()).toMatchObject({ status: 'partial', canRollBack: true, restored: [{ target: 'app' }] });
    await stack.exec('web', ['rm', '/tmp/sick']);
    await rollBack();
  });

  it('says that the data is restored, and which service does not work with it', async () => {
    // A port in the agent's own container, where no server listens.
    const ran = await inPlace('--health-url', 'http://127.0.0.1:65000/up?token=secret');
    expect(ran.code, ran.stdout + ran.stderr).toBe(3);
    const report = JSON.parse(ran.stdout) as RestoreReport;
    expect(report).toMatchObject({
      status: 'partial',
      canRollBack: true,
      restored: [{ target: 'app' }],
      checks: [{ ok: true }, { name: '127.0.0.1:65000/up', ok: false, detail: 'no answer: ECONNREFUSED' }],
      error: { code: 'RESTORE_UNHEALTHY', hint: expect.stringContaining(`lifeboat rollback ${report.id}`) },
    });
    expect(ran.stdout + ran.stderr).not.toContain('secret');
    expect(await inApp(CONTENT)).toBe(first);
    await rollBack();
  });

  it('is refused while a backup runs', async () => {
    await session('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)');
    const holds = "FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessExclusiveLock'";
    await until('the table is locked', async () => (await inApp(`SELECT count(*) ${holds}`)) !== '0');
    const backup = stack.backup();
    await until('the backup waits for the lock', async () => (await stack.helpers()).length > 0);
    const ran = await inPlace();
    expect({ code: ran.code, error: codeOf(ran) }).toEqual({ code: 11, error: 'LOCKED' });
    await stack.psql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()",
    );
    expect((await backup).code).toBe(0);
    expect(await inApp(CONTENT)).toBe(changed);
    // The changed data is the newest now. The steps below restore the first snapshot.
    await inApp("UPDATE t SET v = 'again' WHERE id = 9");
    first = changed;
    changed = await inApp(CONTENT);
  });

  it('is refused while another restore holds a shared service stopped, and the service runs after both', async () => {
    const openGate = await shutGate(stack);
    const { ended } = await begin(stack, 'db');
    const runs = async () =>
      (await ok('docker', ['inspect', '--format', '{{.State.Running}}', await stack.id('web')])).trim();
    expect(await runs()).toBe('false');
    const restore = (source: string) =>
      stack.lifeboat('restore', 'latest', source, '--database', 'app', '--yes', '--no-safety', '--json');
    for (const source of ['db.postgres', 'old.postgres']) {
      const ran = await restore(source);
      expect([ran.code, codeOf(ran)]).toEqual([11, 'LOCKED']);
    }
    expect(await runs()).toBe('false');
    await openGate();
    expect((await ended).code).toBe(0);
    expect(await runs()).toBe('true');
    const second = await restore('old.postgres');
    expect(second.code, second.stdout).toBe(0);
    expect((JSON.parse(second.stdout) as RestoreResult).checks).toMatchObject([{ ok: true }]);
    expect(await runs()).toBe('true');
    for (const args of [[], ['--forget']]) expect((await stack.lifeboat('rollback', '--yes', ...args)).code).toBe(0);
    await rollBack();
  });

  it('replaces a database with a subscription and a slot in use, and drops the old one with both', async () => {
    await inApp(
      `SELECT pg_create_logical_replication_slot('feed', 'test_decoding');
       CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)`,
    );
    const receive = async (database: string) => {
      const argv = ['pg_recvlogical', '-U', 'postgres', '-d', database, '--slot', 'feed', '--start', '-f', '/dev/null'];
      await ok('docker', ['exec', '--detach', await stack.id('db'), 'timeout', '120', ...argv]);
      const active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'feed' AND active";
      await until('the slot is in use', async () => (await stack.psql(active)) === '1');
    };
    await receive('app');
    const shown = await stack.lifeboat('restore', 'latest', 'db.postgres', '--database', 'app', '--dry-run');
    expect(shown.stderr).toContain('replication slot feed stays with the present data');
    expect(shown.stderr).toContain('subscription sub stays with the present data');
    const ran = await inPlace();
    expect(ran.code, ran.stdout).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);
    const kept = (JSON.parse(ran.stdout) as RestoreResult).restored[0]?.kept as string;
    const where =
      "SELECT database, (SELECT datname FROM pg_database JOIN pg_subscription ON subdbid = pg_database.oid) FROM pg_replication_slots WHERE slot_name = 'feed'";
    expect(await stack.psql(where)).toBe(`${kept}|${kept}`);
    await receive(kept);
    const forgotten = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgotten.code, forgotten.stderr).toBe(0);
    expect(forgotten.stderr).toContain('dropped its subscription sub too');
    expect(await databases(stack, 'db')).toEqual(['app', 'postgres']);
    expect(await stack.psql('SELECT count(*) FROM pg_replication_slots')).toBe('0');
  });

  it("restores an older server's database to a newer one, and refuses the opposite before anything changes", async () => {
    const up = await stack.lifeboat(
      'restore',
      'latest',
      'old.postgres',
      '--to',
      'db.postgres',
      '--database',
      'app',
      '--to-database',
      'from15',
      '--json',
    );
    expect(up.code, up.stdout).toBe(0);
    expect(await stack.psql('SELECT count(*) FROM t', { database: 'from15' })).toBe('5');
    const all = () => stack.exec('old', ['sh', '-c', 'pg_dumpall -U postgres | grep -v restrict | md5sum']);
    const next = () => stack.psql('SELECT pg_snapshot_xmax(pg_current_snapshot())', { service: 'old' });
    const before = [await all(), await next()];
    const down = await stack.lifeboat(
      'restore',
      'latest',
      'db.postgres',
      '--to',
      'old.postgres',
      '--database',
      'app',
      '--yes',
      '--json',
    );
    expect({ code: down.code, error: codeOf(down) }).toEqual({ code: 1, error: 'PG_VERSION' });
    expect([await all(), await next()]).toEqual(before);
  });

  it('restores the encoding, locale, owner, limits, comment, settings and privileges of a database', async () => {
    await stack.psql(
      `CREATE ROLE lord LOGIN; CREATE ROLE guest;
       CREATE DATABASE latin TEMPLATE template0 OWNER lord ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' CONNECTION LIMIT 9;
       COMMENT ON DATABASE latin IS 'it''s "latin"'; ALTER DATABASE latin SET search_path = 's p', public;
       ALTER ROLE guest IN DATABASE latin SET work_mem = '8MB'; REVOKE ALL ON DATABASE latin FROM PUBLIC;
       GRANT CONNECT ON DATABASE latin TO guest WITH GRANT OPTION;
       CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' OWNER guest`,
    );
    await stack.psql('CREATE TABLE t AS SELECT 1 AS id, chr(228) AS v', { database: 'latin' });
    await stack.psql('CREATE TABLE t AS SELECT 1 AS id', { database: 'icu' });
    const look = `SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datcollate, datctype,
        datlocale, datconnlimit, datacl, shobj_description(d.oid, 'pg_database'),
        (SELECT array_agg(concat_ws(' ', setrole::regrole, setconfig) ORDER BY 1) FROM pg_db_role_setting WHERE setdatabase = d.oid)
      FROM pg_database d WHERE datname IN ('latin', 'icu') ORDER BY 1`;
    const before = await stack.psql(look);
    expect((await stack.backup('db.postgres')).code).toBe(0);
    for (const name of ['latin', 'icu']) {
      const ran = await stack.lifeboat(
        'restore',
        'latest',
        'db.postgres',
        '--database',
        name,
        '--yes',
        '--no-safety',
        '--json',
      );
      expect({ code: ran.code, warnings: (JSON.parse(ran.stdout) as RestoreResult).warnings }).toEqual({
        code: 0,
        warnings: [],
      });
    }
    expect(await stack.psql(look)).toBe(before);
    expect(await stack.psql('SELECT v = chr(228), octet_length(v) FROM t', { database: 'latin' })).toBe('t|1');
  });
});

describe('a restore in place that runs out of space', () => {
  let stack: Stack;
  let content: string;

  const DATA = '/var/lib/postgresql/data';
  const inDb = (...argv: string[]) => stack.exec('db', argv);
  const inPlace = ['restore', 'latest', 'db.postgres', '--database', 'app', '--yes', '--no-safety', '--json'];

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app', POSTGRES_INITDB_WALDIR: '/wal' },
          command: [
            'postgres',
            '-c',
            'fsync=off',
            '-c',
            'autovacuum=off',
            '-c',
            'wal_level=minimal',
            '-c',
            'max_wal_senders=0',
          ],
          volumes: [`data:${DATA}`, 'wal:/wal'],
        }),
      },
      volumes: {
        data: { driver_opts: { type: 'tmpfs', device: 'tmpfs', o: 'size=320m' } },
        wal: {},
      },
      receiver: false,
    });
    // Rows of 200 KiB that do not compress: 40 MiB, loaded in more than four seconds.
    await stack.psql(
      `${SLOW} CREATE TABLE t (id int PRIMARY KEY, v text, CHECK (slow(id))); ALTER TABLE t ALTER v SET STORAGE EXTERNAL;
       INSERT INTO t SELECT i, repeat(md5(i::text), 6400) FROM generate_series(1, 200) i`,
      { database: 'app' },
    );
    expect((await stack.backup()).code).toBe(0);
    await stack.psql("UPDATE t SET v = 'changed' WHERE id = 1", { database: 'app' });
    content = await stack.psql(CONTENT, { database: 'app' });
  });
  afterAll(() => stack?.destroy());

  const expectUntouched = async (started: string) => {
    expect(await databases(stack, 'db')).toEqual(['app', 'postgres']);
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(content);
    expect(await stack.psql('SELECT pg_postmaster_start_time()')).toBe(started);
    expect(await stack.logs('db')).not.toMatch(/PANIC|reinitializing/);
    expect(await stack.helpers()).toEqual([]);
  };

  it('is refused before anything changes if the space is clearly too small', async () => {
    await inDb('dd', 'if=/dev/zero', `of=${DATA}/filler`, 'bs=1M', 'count=170', 'status=none');
    const before = await stack.psql('SELECT pg_postmaster_start_time(), pg_snapshot_xmax(pg_current_snapshot())');
    const ran = await stack.lifeboat(...inPlace);
    expect({ code: ran.code, error: codeOf(ran) }, ran.stdout).toEqual({ code: 1, error: 'PG_NO_SPACE' });
    expect(await stack.psql('SELECT pg_postmaster_start_time(), pg_snapshot_xmax(pg_current_snapshot())')).toBe(before);
    await expectUntouched(before.split('|')[0] as string);
    await inDb('rm', `${DATA}/filler`);
  });

  it('fails during the load, drops the incomplete database, and works once space is free', async () => {
    const started = await stack.psql('SELECT pg_postmaster_start_time()');
    const { ended } = await begin(stack, 'db');
    await inDb('sh', '-c', `dd if=/dev/zero of=${DATA}/filler bs=64k status=none; true`);
    const ran = await ended;
    expect({ code: ran.code, error: codeOf(ran) }, ran.stdout).toEqual({ code: 1, error: 'PG_NO_SPACE' });
    await inDb('rm', `${DATA}/filler`);
    await expectUntouched(started);
    const again = await stack.lifeboat(...inPlace);
    expect(again.code, again.stdout).toBe(0);
  });
});
