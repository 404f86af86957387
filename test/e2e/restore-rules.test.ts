import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { holder, ok, postgres, type Ran, Stack, type StackOptions, until } from '../harness/stack.ts';

const CONTENT = "SELECT count(*), md5(string_agg(v, ',' ORDER BY id)) FROM t";

/** Rules of a restore: it creates missing data, and never damages existing data. */
describe('restore', () => {
  let stack: Stack;
  let expected: string;
  let hashes: string[];

  const options = (): StackOptions => ({
    services: {
      db: postgres(17, {
        environment: { POSTGRES_DB: 'app' },
        // A server that logs as much as possible.
        command: ['postgres', '-c', 'log_statement=all', '-c', 'log_min_duration_statement=0', '-c', 'fsync=off'],
      }),
      web: holder(['media:/media'], { 'lifeboat.volumes': 'media' }),
    },
    volumes: { media: {} },
    agent: { volumes: ['./conf:/config:ro', './out:/out'] },
    receiver: false,
  });

  const restore = (...args: string[]) => stack.lifeboat('restore', 'latest', 'db.postgres', ...args);
  const result = ({ stdout }: Ran) => JSON.parse(stdout) as RestoreResult & { error: ErrorInfo };
  const names = async () =>
    (await stack.psql('SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname COLLATE "C"')).split(
      '\n',
    );
  const drop = (name: string) => stack.psql(`DROP DATABASE IF EXISTS "${name.replaceAll('"', '""')}" WITH (FORCE)`);
  /** Returns the contents of the server, as text. */
  const everything = async () =>
    (await stack.exec('db', ['pg_dumpall', '-U', 'postgres'])).replaceAll(/^\\(un)?restrict .*$/gm, '');

  /** Creates a container with a new volume: roles and databases are gone, and `app` is empty. */
  async function freshServer(): Promise<void> {
    await stack.compose('rm', '--stop', '--force', '--volumes', 'db');
    await stack.compose('up', '--detach', '--wait', 'db');
  }

  beforeAll(async () => {
    stack = await Stack.start({ ...options(), startAgent: false });
    await mkdir(path.join(stack.directory, 'conf'), { recursive: true });
    await writeFile(path.join(stack.directory, 'conf', '.env'), 'SECRET=1\n');
    await stack.compose('up', '--detach', '--wait');
    await stack.psql(
      `CREATE ROLE app_owner LOGIN PASSWORD 'owner-canary'; CREATE ROLE app_reader LOGIN PASSWORD 'reader-canary';
       ALTER ROLE app_owner SET work_mem = '9MB'; GRANT app_reader TO app_owner; CREATE ROLE bystander NOLOGIN;
       CREATE DATABASE other OWNER app_reader; ALTER DATABASE app OWNER TO app_owner;`,
    );
    await stack.psql(
      `SET ROLE app_owner; CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text);
       INSERT INTO s.t SELECT i, md5(i::text) FROM generate_series(1, 3000) i; GRANT USAGE ON SCHEMA s TO app_reader; GRANT SELECT ON s.t TO app_reader;
       RESET ROLE; ALTER DATABASE app SET search_path = s`,
      { database: 'app' },
    );
    await stack.psql('CREATE TABLE t AS SELECT i AS id, i::text AS v FROM generate_series(1, 10) i', {
      database: 'other',
    });
    await stack.exec('web', [
      'sh',
      '-c',
      'mkdir /media/a && echo hello > /media/a/hello && chown 1234:55 /media/a/hello',
    ]);
    expected = await stack.psql(CONTENT, { database: 'app' });
    hashes = (await stack.psql('SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL')).split('\n');
    const { report } = await stack.backup();
    expect(report.status, JSON.stringify(report)).toBe('ok');
  });
  afterAll(() => stack?.destroy());

  it.each(['copy', '-f/tmp/x', `dbname='x' host=evil`, `a "b" $(id) \\ %s\nline`, 'ä'.repeat(31)])(
    'creates a database under another name: %j',
    async (name) => {
      const ran = await restore('--database', 'app', '--to-database', name, '--json');
      expect(ran.code, ran.stderr).toBe(0);
      expect(result(ran).restored).toEqual([{ target: name, tables: 1, rows: 3000 }]);
      expect(await stack.psql(CONTENT, { database: conninfo(name) })).toBe(expected);
      await drop(name);
      expect(await names()).toEqual(['app', 'other', 'postgres']);
    },
  );

  it('requires a choice if the snapshot has several databases', async () => {
    const ran = await restore('--to-database', 'copy', '--json');
    expect({ code: ran.code, error: result(ran).error.code }).toEqual({ code: 2, error: 'USAGE' });
    const unknown = await restore('--database', 'ap', '--json');
    expect(result(unknown).error.code).toBe('PG_DATABASE_UNKNOWN');
  });

  it('creates a missing database, and only the named one', async () => {
    await drop('app');
    await drop('other');
    const ran = await restore('--database', 'app', '--json');
    expect(ran.code, ran.stderr).toBe(0);
    expect(await names()).toEqual(['app', 'postgres']);
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
    expect(
      await stack.psql("SELECT rolname FROM pg_database JOIN pg_roles r ON r.oid = datdba WHERE datname = 'app'"),
    ).toBe('app_owner');
  });

  it('replaces data only after confirmation, never under another name, and creates nothing before', async () => {
    const before = await everything();
    for (const args of [[], ['--database', 'app'], ['--globals']]) {
      const ran = await restore(...args, '--json');
      expect({ code: ran.code, error: result(ran).error.code }, args.join(' ')).toEqual({
        code: 2,
        error: 'NOT_CONFIRMED',
      });
    }
    const named = await restore('--database', 'other', '--to-database', 'app', '--yes', '--json');
    expect({ code: named.code, error: result(named).error.code }).toEqual({ code: 1, error: 'PG_TARGET_EXISTS' });
    expect(await everything()).toBe(before);
  });

  it('creates the roles that restored objects need and the server lacks, and only those', async () => {
    await freshServer();
    const shown = await restore('--database', 'app', '--dry-run');
    expect(shown.stderr).toMatch(/would create +roles app_owner, app_reader/);
    const ran = await restore('--database', 'app');
    expect(ran.code, ran.stderr).toBe(0);
    expect(ran.stderr).toContain('created app_owner, app_reader');
    expect(ran.stdout).not.toContain('warning');
    const roles = "SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY 1";
    expect(await stack.psql(roles)).toBe('app_owner\napp_reader\npostgres');
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
    // Roles that no object needs come with --globals.
    expect((await restore('--globals', '--database', 'app', '--to-database', 'copy')).code).toBe(0);
    expect(await stack.psql(roles)).toBe('app_owner\napp_reader\nbystander\npostgres');
    for (const { stdout, stderr } of [shown, ran])
      for (const hash of hashes) expect(stdout + stderr).not.toContain(hash.slice(20));
    await freshServer();
  });

  it('fills the empty database of a new server, although an application stays connected', async () => {
    await stack.psql("CREATE ROLE app_reader LOGIN PASSWORD 'another-canary' CONNECTION LIMIT 3");
    const untouched = await stack.psql("SELECT * FROM pg_authid WHERE rolname = 'app_reader'");
    // Reconnects at once whenever its session is ended, and queries its table until that exists.
    const app = `while [ ! -e /tmp/stop ]; do
        psql -q -U postgres -d app -c 'SELECT count(*) FROM s.t' -c 'SELECT pg_sleep(60)' >> /tmp/app 2>&1
      done`;
    for (let i = 0; i < 3; i++) await ok('docker', ['exec', '--detach', await stack.id('db'), 'bash', '-c', app]);
    await until(
      'the application is there',
      async () => (await stack.psql("SELECT count(*) FROM pg_stat_activity WHERE datname = 'app'")) === '3',
    );
    const ran = await restore('--globals', '--json');
    expect(ran.code, ran.stderr + ran.stdout).toBe(0);
    expect(result(ran)).toMatchObject({ warnings: [] });
    await until('the application found its table', async () =>
      /3000/.test(await stack.exec('db', ['sh', '-c', 'cat /tmp/app'])),
    );
    await stack.exec('db', ['sh', '-c', 'touch /tmp/stop']);
    await stack.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'app'");
    expect(await names()).toEqual(['app', 'other', 'postgres']);
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
    expect(await stack.psql("SELECT * FROM pg_authid WHERE rolname = 'app_reader'")).toBe(untouched);
  });

  it('restores the passwords of missing roles, and shows them nowhere', async () => {
    const login = (user: string, password: string) =>
      stack.exec('db', [
        'env',
        `PGPASSWORD=${password}`,
        'psql',
        '-At',
        '-h',
        'db',
        '-U',
        user,
        '-d',
        'app',
        '-c',
        CONTENT,
      ]);
    expect((await login('app_owner', 'owner-canary')).trim()).toBe(expected);
    expect((await login('app_reader', 'another-canary')).trim()).toBe(expected);
    await expect(login('app_reader', 'reader-canary')).rejects.toThrow(/password authentication failed/);
    expect(await stack.psql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'app_owner'::regrole")).toBe(
      '{work_mem=9MB}',
    );
    const serverLog = await stack.logs('db');
    expect(serverLog).toContain('CREATE DATABASE "app__restoring_');
    const logs = serverLog + (await stack.logs('lifeboat'));
    for (const hash of hashes) expect(logs).not.toContain(hash.slice(20));
  });

  it('puts a database with only extensions aside instead of dropping it', async () => {
    await drop('app');
    await stack.psql('CREATE DATABASE app');
    await stack.psql('CREATE EXTENSION hstore; CREATE SCHEMA x; CREATE EXTENSION ltree SCHEMA x', { database: 'app' });
    const ran = await restore('--database', 'app', '--json');
    expect(ran.code, ran.stdout).toBe(0);
    const [kept] = (await names()).filter((name) => /^app__before_[0-9a-f]{6}$/.test(name));
    expect(result(ran).warnings).toEqual([expect.stringContaining(kept as string)]);
    expect(await stack.psql('SELECT count(*) FROM pg_extension', { database: kept as string })).toBe('3');
    expect(await stack.psql(CONTENT, { database: 'app' })).toBe(expected);
    await drop(kept as string);
  });

  it.each([
    ['a function', "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
    ['a large object', "SELECT lo_from_bytea(0, 'x')"],
    ['an empty schema', 'CREATE SCHEMA mine'],
    ['a foreign server', 'CREATE FOREIGN DATA WRAPPER w'],
    ['a table in an extension schema', 'CREATE SCHEMA x; CREATE EXTENSION ltree SCHEMA x; CREATE TABLE x.t ()'],
  ])('treats a database with only %s as data', async (_, sql) => {
    await drop('target');
    await stack.psql('CREATE DATABASE target');
    await stack.psql(sql, { database: 'target' });
    const ran = await restore('--database', 'app', '--to-database', 'target', '--json');
    expect(result(ran).error?.code, ran.stdout).toBe('PG_TARGET_EXISTS');
  });

  it('restores files to an empty directory, with owner and mode', async () => {
    for (const source of ['web.media', 'config', 'db.postgres']) {
      const ran = await stack.lifeboat('restore', 'latest', source, '--to-directory', `/out/${source}`, '--json');
      expect(ran.code, ran.stdout + ran.stderr).toBe(0);
      expect(result(ran).restored).toMatchObject([{ target: `/out/${source}` }]);
      const again = await stack.lifeboat('restore', 'latest', source, '--to-directory', `/out/${source}`, '--json');
      expect(result(again).error.code).toBe('TREE_TARGET_NOT_EMPTY');
    }
    const out = path.join(stack.directory, 'out');
    expect(await readFile(path.join(out, 'config', '.env'), 'utf8')).toBe('SECRET=1\n');
    expect(await ok('stat', ['-c', '%u:%g %s', path.join(out, 'web.media', 'a', 'hello')])).toBe('1234:55 6\n');
    expect((await readdir(path.join(out, 'db.postgres', 'databases'))).sort()).toEqual(['app', 'other', 'postgres']);
    const misplaced = await stack.lifeboat('restore', 'latest', 'web.media', '--to-database', 'x', '--json');
    expect({ code: misplaced.code, error: result(misplaced).error.code }).toEqual({ code: 2, error: 'USAGE' });
    const inPlace = await stack.lifeboat('restore', 'latest', 'config', '--json');
    expect(result(inPlace).error.code).toBe('USAGE');
  });
});

/** Builds a connection string, because psql would read some names as one. */
function conninfo(name: string): string {
  return `dbname='${name.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
