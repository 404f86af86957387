import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { holder, ok, postgres, type Ran, Stack, until } from '../harness/stack.ts';

const CONTENT = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t";

/** `lifeboat restore` of data in use. */
describe('a restore in place', () => {
  let stack: Stack;
  let first: string;
  let snapshot: string;

  const error = ({ stdout }: Ran) => (JSON.parse(stdout) as { error?: ErrorInfo }).error?.code;
  const inApp = (sql: string) => stack.psql(sql, { database: 'app' });
  const databases = async () =>
    (await stack.psql('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE "C"')).split(
      '\n',
    );
  const restore = async (...args: string[]) => {
    const ran = await stack.lifeboat('restore', snapshot, 'db.postgres', '--database', 'app', '--json', ...args);
    return { ...ran, result: JSON.parse(ran.stdout || '{}') as RestoreResult };
  };
  const startedAt = async (service: string): Promise<string> =>
    ok('docker', ['inspect', '--format', '{{.State.StartedAt}}', await stack.id(service)]);

  beforeAll(async () => {
    stack = await Stack.start({
      services: {
        db: postgres(17, {
          environment: { POSTGRES_DB: 'app' },
          command: [
            'postgres',
            '-c',
            'max_prepared_transactions=5',
            '-c',
            'wal_level=logical',
            '-c',
            'fsync=off',
            '-c',
            'autovacuum=off',
          ],
        }),
        web: holder([], {}, { depends_on: { db: { condition: 'service_healthy' } } }),
        other: holder([], {}),
      },
    });
    await inApp(
      `CREATE ROLE owner LOGIN; ALTER DATABASE app OWNER TO owner; ALTER DATABASE app SET work_mem = '7MB';
       GRANT TEMP ON DATABASE app TO owner;
       CREATE TABLE t (id serial PRIMARY KEY, v text CHECK (v <> ''));
       INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 5000) i;`,
    );
    first = await inApp(CONTENT);
    const { report } = await stack.backup();
    expect(report.status).toBe('ok');
    snapshot = report.snapshot as string;
  });
  afterAll(() => stack?.destroy());

  it('shows what it would do and changes nothing with --dry-run', async () => {
    await inApp("INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 412); CREATE TABLE later (i int)");
    const ran = await stack.lifeboat('restore', snapshot, 'db.postgres', '--database', 'app', '--dry-run');
    expect(ran.code).toBe(0);
    expect(ran.stderr).toMatch(
      /would replace +app \(.*: 412 more rows than the snapshot, and 1 table that it does not have\)/,
    );
    expect(ran.stderr).toMatch(/would stop +\S+-web-1 \(it uses the data\)/);
    expect(ran.stderr).not.toContain('other');
    expect(ran.stderr).toMatch(/needs .* free in .*, has /);
    expect(await databases()).toEqual(['app', 'postgres']);
  });

  it('is refused without a terminal and without --yes, before anything changes', async () => {
    const refused = await restore();
    expect({ code: refused.code, error: error(refused) }).toEqual({ code: 2, error: 'NOT_CONFIRMED' });
    expect(await databases()).toEqual(['app', 'postgres']);
    expect((await stack.json<{ snapshots: unknown[] }>('snapshots')).snapshots.length).toBe(1);
  });

  it('replaces the database while an application reconnects in a loop, and puts the old one aside', async () => {
    const before = await startedAt('web');
    const other = await startedAt('other');
    const changed = await inApp('SELECT count(*) FROM t');
    // An application that takes a lock, and reconnects whenever its session ends.
    // It ends by itself. A psql without a parent would become a child of the postmaster, which treats its end as a
    // crash.
    const loop =
      'until test -e /tmp/enough; do psql -X -q -U postgres -d app -c "BEGIN; LOCK TABLE t IN SHARE MODE; SELECT pg_sleep(1)" >/dev/null 2>&1; done';
    const hammer = ok('docker', ['exec', await stack.id('db'), 'bash', '-c', loop]);
    const { code, result, stderr } = await restore('--yes', '--health-url', `${await stack.receiverUrl()}/up?token=x`);
    await ok('docker', ['exec', await stack.id('db'), 'touch', '/tmp/enough']);
    await hammer;
    expect(code, stderr + JSON.stringify(result)).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);
    expect(result.withoutDataMs).toBeLessThan(10_000);
    process.stderr.write(`without a working database for ${result.withoutDataMs} ms\n`);
    const [item] = result.restored;
    expect(item).toMatchObject({ target: 'app', rows: 5000, kept: expect.stringMatching(/^app__before_[0-9a-f]{6}$/) });
    expect(await databases()).toEqual(['app', item?.kept, 'postgres']);
    expect(await stack.psql('SELECT count(*) FROM t', { database: item?.kept as string })).toBe(changed);
    // The owner, settings, privileges, constraints and sequences are those of the snapshot.
    const facts = `SELECT pg_get_userbyid(datdba), datacl IS NOT NULL, (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid),
      (SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype IN ('p', 'c')), nextval('t_id_seq') > 5000
      FROM pg_database d WHERE datname = 'app'`;
    expect(await inApp(facts)).toBe('owner|t|{work_mem=7MB}|2|t');
    // `web` uses the database and was stopped and started; `other` does not.
    expect(await startedAt('web')).not.toBe(before);
    expect(await startedAt('other')).toBe(other);
    expect(result.checks).toEqual([
      { name: expect.stringContaining('web-1'), ok: true, detail: expect.any(String) },
      { name: expect.stringMatching(/:\d+\/up$/), ok: true, detail: 'answers' },
    ]);
    expect(stack.receiver?.requests.some(({ path }) => path === '/up')).toBe(true);
    expect(await stack.helpers()).toEqual([]);
  });

  it('took a pinned safety snapshot, which `latest` skips', async () => {
    const { snapshots: list } = await stack.json<{ snapshots: { trigger: string; pinned?: string }[] }>('snapshots');
    expect(list.map(({ trigger, pinned }) => ({ trigger, pinned: pinned !== undefined }))).toEqual([
      { trigger: 'safety', pinned: true },
      { trigger: 'manual', pinned: false },
    ]);
    const ran = await stack.lifeboat(
      'restore',
      'latest',
      'db.postgres',
      '--to-database',
      'copy',
      '--database',
      'app',
      '--json',
    );
    expect((JSON.parse(ran.stdout) as RestoreResult).snapshot).toBe(snapshot);
    await stack.psql('DROP DATABASE copy');
  });

  it('left a record, and reported its start and end', async () => {
    const objects = (await stack.objects()).filter((key) => key.includes('/restores/'));
    expect(objects.length).toBeGreaterThan(0);
    const messages = (stack.receiver?.requests ?? []).map(({ body }) => body).join('\n');
    expect(messages).toContain('restore of db.postgres from');
  });

  it('put data aside that is neither backed up nor reported as missing later', async () => {
    const { report } = await stack.backup();
    expect(report).toMatchObject({ status: 'ok', problems: [] });
    expect(report.results.map(({ warnings, summary }) => ({ warnings, summary }))).toEqual([
      { warnings: [], summary: expect.stringContaining('2 databases') },
    ]);
    const one = await stack.lifeboat(
      'restore',
      'latest',
      'db.postgres',
      '--table',
      'public.t',
      '--as',
      't2',
      '--dry-run',
    );
    expect(one.code, one.stderr).toBe(0);
    const { stdout } = await stack.lifeboat('plan');
    expect(stdout).not.toContain('__before_');
  });

  it('shows the old data in status; a rollback restores it at once, and can be undone', async () => {
    // Without the size if the server does not answer in time.
    const shown = async () => {
      const { stdout, stderr } = await stack.lifeboat('status');
      return /db\.postgres restored .* replaced data kept, \d/.test(stdout + stderr);
    };
    await until('status shows what is kept', shown);
    // The last restore was one under another name, which no rollback undoes.
    const older = await stack.lifeboat('rollback', '--yes', '--json');
    expect({ code: older.code, error: error(older) }).toEqual({ code: 2, error: 'NOT_CONFIRMED' });
    const { restores } = await stack.json<{ restores: { id: string }[] }>('status');
    const changed = '5412';
    for (const rows of [changed, '5000', changed]) {
      const ran = await stack.lifeboat('rollback', restores[0]?.id as string, '--yes', '--json');
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      expect(await inApp('SELECT count(*) FROM t')).toBe(rows);
      expect((await databases()).length).toBe(3);
    }
    const refused = await stack.lifeboat('rollback', '--forget', '--json');
    expect({ code: refused.code, error: error(refused) }).toEqual({ code: 2, error: 'NOT_CONFIRMED' });
    const forgot = await stack.lifeboat('rollback', '--forget', '--yes');
    expect(forgot.code, forgot.stdout + forgot.stderr).toBe(0);
    expect(await databases()).toEqual(['app', 'postgres']);
    expect(error(await stack.lifeboat('rollback', '--yes', '--json'))).toBe('NOTHING_TO_ROLL_BACK');
  });

  it('refuses a database with a prepared transaction, and mentions slots', async () => {
    await inApp("BEGIN; INSERT INTO t (v) VALUES ('prepared'); PREPARE TRANSACTION 'held'");
    const refused = await restore('--yes');
    expect({ code: refused.code, error: error(refused) }).toEqual({ code: 1, error: 'PG_TARGET_BUSY' });
    await inApp("ROLLBACK PREPARED 'held'");
    await inApp("SELECT pg_create_logical_replication_slot('feed', 'pgoutput')");
    const { stderr } = await stack.lifeboat('restore', snapshot, 'db.postgres', '--database', 'app', '--dry-run');
    expect(stderr).toContain('replication slot feed stays with the present data');
    const done = await restore('--yes', '--no-safety', '--no-stop');
    expect(done.code, done.stdout).toBe(0);
    expect(done.result.safety).toBeUndefined();
    expect(await inApp(CONTENT)).toBe(first);
  });

  it('can only be rolled back in order, the later restore first', async () => {
    expect((await restore('--yes', '--no-safety', '--no-stop')).code).toBe(0);
    const { restores } = await stack.json<{ restores: { id: string }[] }>('status');
    const [later, earlier] = restores.map(({ id }) => id);
    const refused = await stack.lifeboat('rollback', earlier as string, '--yes', '--json');
    expect({ code: refused.code, error: error(refused) }).toEqual({ code: 2, error: 'USAGE' });
    for (const id of [later, earlier]) {
      const ran = await stack.lifeboat('rollback', id as string, '--yes');
      expect(ran.code, ran.stderr).toBe(0);
    }
    for (const id of [later, earlier]) {
      const ran = await stack.lifeboat('rollback', id as string, '--forget', '--yes');
      expect(ran.code, ran.stderr).toBe(0);
    }
    expect(await databases()).toEqual(['app', 'postgres']);
  });

  it('replaces a database that allows no connections, an invalid one, and one with damaged files', async () => {
    await stack.psql('ALTER DATABASE app ALLOW_CONNECTIONS false');
    const look = async () =>
      (await stack.lifeboat('restore', snapshot, 'db.postgres', '--database', 'app', '--dry-run')).stderr;
    expect(await look()).toMatch(/not counted, nobody can connect to it: .*not currently accepting connections/);
    // No snapshot taken now could hold it.
    const unsafe = await restore('--yes', '--no-stop');
    expect({ code: unsafe.code, error: error(unsafe) }).toEqual({ code: 1, error: 'PG_DATABASE_UNKNOWN' });
    expect(await databases()).toEqual(['app', 'postgres']);
    const closed = await restore('--yes', '--no-safety', '--no-stop');
    expect(closed.code, closed.stdout + closed.stderr).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);

    // The state after an interrupted DROP DATABASE.
    await stack.psql("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'app'");
    expect(await look()).toMatch(/not counted, nobody can connect to it: .*invalid database/);
    const invalid = await restore('--yes', '--no-stop');
    expect([invalid.code, error(invalid)]).toEqual([1, 'PG_DATABASE_UNKNOWN']);
    expect(invalid.stdout).toMatch(/the safety snapshot does not hold app: .*interrupted.*only allows dropping it/);
    const instead = await restore('--yes', '--no-safety', '--no-stop');
    expect(instead.code, instead.stdout + instead.stderr).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);

    const file = await inApp("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('t')");
    await stack.psql('CHECKPOINT');
    await stack.exec('db', ['sh', '-c', 'head -c 16384 /dev/urandom | dd of="$1" conv=notrunc', 'sh', file]);
    await ok('docker', ['restart', await stack.id('db')]);
    await until('the server answers', () => stack.psql('SELECT 1').then(Boolean, () => false));
    await expect(inApp(CONTENT)).rejects.toThrow(/invalid page/);
    expect(await look()).toContain('not counted, reading it fails with SQLSTATE XX001');
    const undumped = await restore('--yes', '--no-stop');
    expect([undumped.code, error(undumped)]).toEqual([1, 'PG_DUMP_FAILED']);
    const damaged = await restore('--yes', '--no-safety', '--no-stop');
    expect(damaged.code, damaged.stdout + damaged.stderr).toBe(0);
    expect(await inApp(CONTENT)).toBe(first);
  });
});
