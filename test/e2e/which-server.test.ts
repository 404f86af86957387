import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { SourceReport } from '../../src/report/events.ts';
import { healthcheck, holder, ok, postgres, Stack } from '../harness/stack.ts';

/**
 * Servers at other addresses than 127.0.0.1:5432, and other servers that respond there instead. Either the labelled
 * server is backed up and restored, or none is.
 */
const ENV_SECRET = 'canary-from-the-environment';
const KEEPER = 'canary-of-the-keeper';
const BINDER = 'canary-of-the-directory';
const LDAP_RULE = `hostssl none nobody 203.0.113.7/32 ldap ldapserver=ldap.invalid ldapbasedn="dc=x" ldapbindpasswd=${BINDER}`;
const ready = (where: string, port = 5432) => ({
  healthcheck: healthcheck(`/usr/lib/postgresql/$$PG_MAJOR/bin/pg_isready -q -h ${where} -p ${port} -U postgres`),
});
const SNAKEOIL = [
  'ssl_cert_file=/etc/ssl/certs/ssl-cert-snakeoil.pem',
  'ssl_key_file=/etc/ssl/private/ssl-cert-snakeoil.key',
];
const set = (...settings: string[]) => ['postgres', ...settings.flatMap((setting) => ['-c', setting])];

const RECORD = [
  '1',
  '/var/lib/postgresql/data',
  '1',
  '5432',
  '/var/run/postgresql',
  '*',
  '  1728761  4',
  'ready',
  '',
].join('\\n');

let stack: Stack;
let directory: string;
let sources: Map<string, SourceReport>;

/** Runs SQL over the socket inside the container, wherever its server listens. */
const ask = (service: string, sql: string, port = 5432, user = 'postgres') =>
  stack.exec(service, [
    'psql',
    '-XqAt',
    '-v',
    'ON_ERROR_STOP=1',
    '-p',
    String(port),
    '-U',
    user,
    '-d',
    'postgres',
    '-c',
    sql,
  ]);
const tablesOf = async (source: string) => {
  const shown = await stack.json<{ facts: { databases: { tables: { name: string }[] }[] } }>('show', 'latest', source);
  return shown.facts.databases.flatMap(({ tables }) => tables.map(({ name }) => name));
};

beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-which-'));
  await chmod(directory, 0o755);
  await writeFile(path.join(directory, 'pg_hba.conf'), `local all all trust\nhostssl all all all md5\n${LDAP_RULE}\n`);
  process.env.LBT_ENV_SECRET = ENV_SECRET;
  stack = await Stack.start({
    services: {
      // Its port 5432 is also the port 5432 of the two containers that share its network.
      other: postgres(17, { labels: {} }),
      db: postgres(17, {
        network_mode: 'service:other',
        command: ['postgres', '-p', '5433'],
        ...ready('127.0.0.1', 5433),
      }),
      none: holder([], { 'lifeboat.postgres': 'true' }, { network_mode: 'service:other' }),
      // As after a power failure: the server's postmaster.pid exists, but no server runs.
      stale: postgres(17, {
        network_mode: 'service:other',
        entrypoint: ['sh', '-c', `printf '${RECORD}' >$$PGDATA/postmaster.pid; : >/dev/shm/well; exec sleep 86400`],
        init: true,
        healthcheck: healthcheck('true'),
      }),
      socket: postgres(17, {
        command: set('listen_addresses='),
        volumes: ['socket:/var/run/postgresql'],
        ...ready('/var/run/postgresql'),
      }),
      hidden: postgres(17, { command: set('listen_addresses='), ...ready('/var/run/postgresql') }),
      six: postgres(18, {
        command: set('listen_addresses=::1'),
        sysctls: { 'net.ipv6.conf.all.disable_ipv6': 0, 'net.ipv6.conf.lo.disable_ipv6': 0 },
        ...ready('/var/run/postgresql'),
      }),
      tls: postgres(13, {
        command: set('ssl=on', ...SNAKEOIL, 'hba_file=/hba/pg_hba.conf', 'shared_preload_libraries=auto_explain'),
        volumes: [`${directory}:/hba:ro`],
        secrets: ['pw'],
        environment: { POSTGRES_PASSWORD: undefined, POSTGRES_PASSWORD_FILE: '/run/secrets/pw', POSTGRES_DB: 'shop' },
        ...ready('/var/run/postgresql'),
      }),
    },
    volumes: { socket: {} },
    secrets: { pw: { environment: 'LBT_ENV_SECRET' } },
  });
  await ask('other', 'CREATE TABLE decoy AS SELECT generate_series(1, 10) AS n');
  for (const [service, port] of [['db', 5433], ['socket'], ['six'], ['tls']] as const)
    await ask(service, `CREATE TABLE of_${service} AS SELECT generate_series(1, 100) AS n`, port);
  const { report } = await stack.backup();
  sources = new Map(report.results.map((result) => [result.name, result]));
});
afterAll(async () => {
  delete process.env.LBT_ENV_SECRET;
  await stack?.destroy();
  await rm(directory, { recursive: true, force: true });
});

it.each(['db', 'socket', 'six', 'tls'])('backs up the server of %s, and no other', async (service) => {
  expect(sources.get(`${service}.postgres`)).toMatchObject({ status: 'ok', warnings: [] });
  expect(await tablesOf(`${service}.postgres`)).toEqual([`of_${service}`]);
});

it('backs up nothing from another server in the same network, and says so before the first run', async () => {
  const error = sources.get('none.postgres')?.error;
  expect(error).toMatchObject({
    code: 'PG_WRONG_SERVER',
    message: expect.stringContaining('nothing proves that the server at 127.0.0.1:5432'),
  });
  const stale = sources.get('stale.postgres')?.error;
  expect(stale).toMatchObject({
    code: 'PG_WRONG_SERVER',
    message: expect.stringContaining('the server at 127.0.0.1:5432 does not belong to database container'),
  });
  const plan = await stack.lifeboat('plan');
  expect(plan.stdout.match(/PG_WRONG_SERVER/g)).toHaveLength(2);
});

it('explains why a server that only listens on a socket cannot be reached, with a hint', () => {
  const error = sources.get('hidden.postgres')?.error;
  expect(error?.code).toBe('PG_UNREACHABLE');
  expect(error?.message).toContain('its Unix socket in /var/run/postgresql is in no volume');
  expect(error?.hint).toContain('mount a volume at /var/run/postgresql');
});

it('restores in place to the labelled server, rolls back, and changes no other', async () => {
  await ask('db', 'DELETE FROM of_db', 5433);
  const argv = ['restore', 'latest', 'db.postgres', '--database', 'postgres', '--yes', '--no-safety'];
  const restored = await stack.lifeboat(...argv);
  expect(restored.code, restored.stderr).toBe(0);
  expect(restored.stderr).toMatch(/analysed 1 table in \d[\s\S]*swapping: the present postgres is put aside/);
  expect(await ask('db', 'SELECT count(*) FROM of_db', 5433)).toBe('100\n');
  expect(await ask('other', 'SELECT count(*) FROM decoy')).toBe('10\n');
  const back = await stack.lifeboat('rollback', '--yes');
  expect(back.code, back.stderr).toBe(0);
  expect(await ask('db', 'SELECT count(*) FROM of_db', 5433)).toBe('0\n');
});

it('records access rules and preloaded libraries, and notes at a restore which of them the server lacks', async () => {
  const shown = await stack.json<{ facts: { server: { config: object } } }>('show', 'latest', 'tls.postgres');
  const rules = [
    'local all all trust',
    'hostssl all all all md5',
    'hostssl none nobody 203.0.113.7 255.255.255.255 ldap ldapserver ldapbasedn ldapbindpasswd ldapscope',
  ];
  expect(shown.facts.server.config).toMatchObject({ preload: 'auto_explain', rules });
  const argv = ['restore', 'latest', 'tls.postgres', '--database', 'postgres', '--to-database', 'again', '--dry-run'];
  const elsewhere = await stack.lifeboat(...argv, '--to', 'db.postgres');
  expect(elsewhere.code, elsewhere.stderr).toBe(0);
  const from = 'the server of the snapshot had';
  expect(elsewhere.stderr).toContain(`${from} auto_explain in shared_preload_libraries, which this one lacks`);
  expect(elsewhere.stderr).toContain(`${from} rules in pg_hba.conf that this one lacks: ${rules[1]}; ${rules[2]}`);
  const back = await stack.lifeboat(...argv);
  expect(back.code, back.stderr).toBe(0);
  expect(back.stderr).not.toContain(from);
  expect(JSON.stringify(shown) + elsewhere.stderr).not.toContain(BINDER);
});

it.each(['socket', 'tls'])('restores to the server of %s', async (service) => {
  const argv = ['restore', 'latest', `${service}.postgres`, '--database', 'postgres', '--to-database', 'again'];
  const restored = await stack.lifeboat(...argv);
  expect(restored.code, restored.stderr).toBe(0);
  expect(await ask(service, 'SELECT count(*) FROM pg_database')).toBe(service === 'tls' ? '5\n' : '4\n');
});

it('reports a POSTGRES_DB that the server does not have', async () => {
  await ask('tls', 'DROP DATABASE shop');
  const { code, report } = await stack.backup('tls.postgres');
  expect({ code, status: report.results[0]?.status }).toEqual({ code: 0, status: 'ok' });
  expect(report.results[0]?.warnings).toContainEqual(expect.stringContaining('POSTGRES_DB names database shop, which'));
  expect((await stack.lifeboat('plan')).stdout).toMatch(/POSTGRES_DB names database shop.*PG_DATABASE_UNKNOWN/s);
});

it('connects as the role that LIFEBOAT_PGCREDENTIALS names for one source, and changes no other source', async () => {
  await ask('tls', `CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '${KEEPER}'; ALTER ROLE postgres PASSWORD 'another'`);
  const backup = (env: Record<string, string>) => {
    const settings = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    return ok('docker', [
      'exec',
      ...settings,
      `${stack.project}-lifeboat-1`,
      'lifeboat',
      'backup',
      '--json',
      'db.postgres',
      'tls.postgres',
    ]).catch((error: Error) => error.message);
  };
  const refused = await backup({});
  expect(refused).toContain('POSTGRES_PASSWORD_FILE only applies when the data directory is first created');
  const unknown = await backup({ LIFEBOAT_PGCREDENTIALS: 'tls.postgres:keeper:' });
  expect(unknown).toContain('name no password');
  expect(unknown).not.toContain('DeprecationWarning');
  const taken = JSON.parse(await backup({ LIFEBOAT_PGCREDENTIALS: `tls.postgres:keeper:${KEEPER}` }));
  expect(taken.results.map(({ name, status }: SourceReport) => `${name} ${status}`)).toEqual([
    'db.postgres ok',
    'tls.postgres ok',
  ]);
});
