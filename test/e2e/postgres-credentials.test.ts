import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { quoteIdentifier } from '../../src/sources/postgres/server/quote.ts';
import { ok, postgres, Stack, type StackOptions, until, whileRuns } from '../harness/stack.ts';
import { askRestored, expectFailedCleanly, expectNextRunGood, expectStoredWithout, remember } from './outcome.ts';

/** Appears nowhere by chance, and differs in each encoding. */
const CANARY = 'c4nary/Pg pass"word+ü:\\';
const READER = 'canary-of-the-reader';
const TABLE = 'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 300);';
const ASK = 'SELECT count(*), sum(id) FROM t';

const SEE_PROCESSES = 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ';

/** Every form of the secret to search for. */
function forms(secret: string): string[] {
  const bytes = Buffer.from(secret);
  const encoded = [encodeURIComponent(secret), encodeURI(secret), JSON.stringify(secret).slice(1, -1)];
  // In a longer text, the base64 of the secret starts at one of three offsets.
  const pieces = [0, 1, 2].map((before) =>
    Buffer.concat([Buffer.alloc(before), bytes])
      .toString('base64')
      .slice(before + 2, -4),
  );
  return [secret, ...encoded, bytes.toString('base64'), bytes.toString('hex'), ...pieces];
}

function expectNoSecret(secret: string, where: Record<string, string>): void {
  for (const [name, text] of Object.entries(where)) {
    expect(text.length, `${name} is empty, so nothing was looked at`).toBeGreaterThan(0);
    for (const form of forms(secret)) expect(text.includes(form), `${form} in ${name}`).toBe(false);
  }
}

describe('a server with secret files, another superuser, and no trust for 127.0.0.1', () => {
  let stack: Stack;
  let options: StackOptions;
  let secrets: string;
  const user = 'App owner';

  beforeAll(async () => {
    secrets = await mkdtemp(path.join(tmpdir(), 'lifeboat-secrets-'));
    // With a line break at the end, as editors write it. The image reads them as its own user.
    await writeFile(path.join(secrets, 'password'), `${CANARY}\n`, { mode: 0o444 });
    await writeFile(path.join(secrets, 'user'), `${user}\n`, { mode: 0o444 });
    await writeFile(path.join(secrets, 'reader'), `${READER}\n`, { mode: 0o444 });
    options = {
      services: {
        db: postgres(17, {
          environment: {
            POSTGRES_PASSWORD: undefined,
            POSTGRES_PASSWORD_FILE: '/run/secrets/password',
            POSTGRES_USER_FILE: '/run/secrets/user',
            POSTGRES_DB: 'shop',
            POSTGRES_INITDB_ARGS: '--auth-host=scram-sha-256',
          },
          secrets: ['password', 'user', 'reader'],
        }),
      },
      secrets: Object.fromEntries(
        ['password', 'user', 'reader'].map((name) => [name, { file: path.join(secrets, name) }]),
      ),
      env: { LOG_LEVEL: 'debug' },
    };
    stack = await Stack.start(options);
    await stack.psql(TABLE, { user, database: 'shop' });
  });
  afterAll(async () => {
    await stack?.destroy();
    await rm(secrets, { recursive: true, force: true });
  });

  it('refuses a connection without the password, so the test is valid', async () => {
    const asked = stack.exec('db', ['psql', '-w', '-h', '127.0.0.1', '-U', user, '-d', 'shop', '-c', 'SELECT 1']);
    await expect(asked).rejects.toThrow(/no password supplied/);
  });

  it('backs up and restores, and shows the password nowhere', async () => {
    const seen: Record<string, string> = {};
    // pg_dump waits for the lock, so that it can be inspected.
    const hold = ['-c', 'BEGIN', '-c', 'LOCK TABLE t', '-c', 'SELECT pg_sleep(300)'];
    await ok('docker', ['exec', '--detach', await stack.id('db'), 'psql', '-XqU', user, '-d', 'shop', ...hold]);
    const holding = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep(300)%' AND pid <> pg_backend_pid()";
    await until('the lock is held', async () => (await stack.psql(`SELECT count(*) ${holding}`, { user })) === '1');
    const running = expectNextRunGood(stack);
    const waits = until('pg_dump waits', async () => {
      const [helper] = await stack.helpers();
      if (!helper) return false;
      const processes = await ok('docker', ['exec', helper, 'sh', '-c', SEE_PROCESSES]).catch(() => '');
      if (!processes.includes('pg_dump\0--')) return false;
      seen['arguments and environments in the helper'] = processes;
      seen['docker inspect of the helper'] = await ok('docker', ['inspect', helper]);
      return true;
    });
    await whileRuns(running, waits);
    await stack.psql(`SELECT pg_terminate_backend(pid) ${holding}`, { user });
    const inspected = seen['docker inspect of the helper'] ?? '';
    const volumes = [...inspected.matchAll(/"Name": "([0-9a-f]{64})"/g)].map((match) => match[1] as string);
    const report = await running;
    // The image declares a volume. The helper's anonymous volume is removed with the helper.
    expect(volumes).toHaveLength(1);
    expect(await ok('docker', ['volume', 'ls', '--quiet'])).not.toContain(volumes[0]);
    expect(await askRestored(stack, report.id, 'shop', ASK, { user })).toBe('300|45150');
    seen['requests to the receiver'] = JSON.stringify(stack.receiver?.requests);
    seen['log of the agent'] = await stack.logs('lifeboat');
    seen['plan, status and snapshots'] = (
      await Promise.all(['plan', 'status', 'snapshots'].map((name) => stack.lifeboat(name)))
    )
      .map(({ stdout, stderr }) => stdout + stderr)
      .join('');
    expectNoSecret(CANARY, seen);
  });

  it('says that POSTGRES_PASSWORD is only the first password, and uses LIFEBOAT_PGPASSWORD as the present one', async () => {
    const changed = `changed-${CANARY}`;
    await stack.psql(`ALTER ROLE "App owner" PASSWORD '${changed}'`, { user });
    const before = await remember(stack, user);
    const ran = await stack.backup();
    await expectFailedCleanly(stack, before, ran, { code: 'PG_AUTH', user });
    const error = ran.report.results[0]?.error;
    expect(error?.message).toContain('refused the credentials of user App');
    expect(error?.hint).toMatch(/^POSTGRES_PASSWORD_FILE only applies .* LIFEBOAT_PGPASSWORD/);
    const plan = await stack.lifeboat('plan');
    expect(plan.stdout).toContain('PG_AUTH');

    await stack.write({ ...options, env: { ...options.env, LIFEBOAT_PGPASSWORD: changed } });
    await stack.compose('up', '--detach', '--wait');
    await expectNextRunGood(stack);
    expectNoSecret(CANARY, {
      'requests to the receiver': JSON.stringify(stack.receiver?.requests),
      'log of the agent': await stack.logs('lifeboat'),
      'report of the failed run': JSON.stringify(ran),
    });
  });

  it('works with a role that may only read, and names the rights that another role lacks', async () => {
    // pg_read_all_data would also show the passwords of roles. This role only has the rights that it needs.
    const roles = `CREATE ROLE backup LOGIN PASSWORD '${READER}'; GRANT SELECT ON t TO backup;
      CREATE ROLE nobody LOGIN PASSWORD 'nothing-pw';
      CREATE FUNCTION logged() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
      CREATE EVENT TRIGGER logged ON login EXECUTE FUNCTION logged();`;
    await stack.psql(roles, { user, database: 'shop' });
    // The labels of this one server count more than the settings for all of them.
    const others = { LIFEBOAT_PGUSER: 'nobody', LIFEBOAT_PGPASSWORD: 'nothing-pw' };
    const labels = { 'lifeboat.postgres.user': 'backup', 'lifeboat.postgres.password-secret': 'reader' };
    const { db } = options.services as { db: { labels: object } };
    const labelled = { db: { ...db, labels: { ...db.labels, ...labels } } };
    await stack.write({ ...options, services: labelled, env: { ...options.env, ...others } });
    await stack.compose('up', '--detach', '--wait');
    const report = await expectNextRunGood(stack);
    expectNoSecret(READER, { 'log of the agent': await stack.logs('lifeboat'), report: JSON.stringify(report) });
    expect(report.results[0]?.warnings).toEqual([
      expect.stringContaining('roles are stored without their passwords'),
      expect.stringMatching(
        /^database shop: login event trigger logged fires .*, since role backup may not switch it off/,
      ),
      expect.stringMatching(
        /^role backup can back up these databases but cannot restore them: .*CREATEDB.*not a member of/,
      ),
    ]);

    // The limit does not apply to superusers.
    await stack.psql('CREATE DATABASE busy CONNECTION LIMIT 0', { user });
    const earlier = await remember(stack, user);
    const busy = await stack.backup();
    await expectStoredWithout(stack, earlier, busy, { code: 'PG_UNREACHABLE', database: 'busy', user });
    expect(busy.report.results[0]?.error?.cause).toContain('too many connections for database "busy"');
    await stack.psql('DROP DATABASE busy', { user });

    await stack.write({ ...options, env: { ...options.env, ...others } });
    await stack.compose('up', '--detach', '--wait');
    const before = await remember(stack, user);
    const ran = await stack.backup();
    await expectStoredWithout(stack, before, ran, { code: 'PG_DUMP_FAILED', database: 'shop', user });
    const error = ran.report.results[0]?.error;
    expect(error?.cause).toContain('permission denied for table t');
    expect(error?.hint).toContain('pg_read_all_data');
  });
});

/** Names with a special meaning for a shell, libpq, pg_dump or a file system. */
const NAMES = [
  '-f/tmp/pwn',
  'a b',
  'quote\'"x',
  '$(touch /tmp/x)',
  'back\\slash',
  `${'ü'.repeat(31)}x`,
  'key=value',
  'host=evil dbname=postgres',
  'two\nlines',
  'postgresql://evil/x',
  '../up',
  '%41',
  'UPPER',
  '*',
];

describe('databases with hostile names', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({ services: { db: postgres(17) } });
    // Each is a copy of template1 with one row more than the previous one.
    const copies = NAMES.map((name, i) => `INSERT INTO t VALUES (${i}); CREATE DATABASE ${quoteIdentifier(name)};`);
    await stack.psql(`CREATE TABLE t (id int PRIMARY KEY); ${copies.join('\n')}`, { database: 'template1' });
  });
  afterAll(() => stack?.destroy());

  /** Queries every database in one command. psql's `-d` would read some names as connection strings. */
  async function askAll(): Promise<string[]> {
    const names = NAMES.map((name) => `dbname='${name.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'\0`);
    const each = `while IFS= read -r -d "" name; do psql -XqAt -U postgres -d "$name" -c "$1" || exit; done`;
    return (await stack.exec('db', ['bash', '-c', each, 'ask', ASK], names.join(''))).trimEnd().split('\n');
  }

  it('are backed up under their names, and each is restored unchanged', async () => {
    const answers = await askAll();
    expect(new Set(answers).size).toBe(NAMES.length);
    const report = await expectNextRunGood(stack);
    expect(report.results[0]?.summary).toContain(`${NAMES.length + 1} databases`);
    const shown = await stack.json<{ facts: { databases: { name: string }[] } }>('show', report.id, 'db.postgres');
    expect(shown.facts.databases.map(({ name }) => name)).toEqual(expect.arrayContaining(NAMES));

    await stack.psql(NAMES.map((name) => `DROP DATABASE ${quoteIdentifier(name)};`).join('\n'));
    const { code, stderr } = await stack.lifeboat('restore', 'latest', 'db.postgres');
    expect(code, stderr).toBe(0);
    expect(await askAll()).toEqual(answers);
    expect(await stack.helpers()).toEqual([]);
  });

  it('report a database that does not exist, by its whole name', async () => {
    const before = await remember(stack);
    const labels = { 'lifeboat.postgres': 'true', 'lifeboat.postgres.databases': 'upper,postgres' };
    await stack.write({ services: { db: postgres(17, { labels }) } });
    // Recreated with its data: the new container gets the volume of the old one.
    await stack.compose('up', '--detach', '--wait');
    const ran = await stack.backup();
    const expected = { code: 'PG_DATABASE_UNKNOWN', database: 'upper', restarted: true } as const;
    await expectStoredWithout(stack, before, ran, expected);
    expect(ran.report.results[0]?.error?.message).toContain('has no database upper');
    expect(ran.report.results[0]?.error?.hint).toContain('UPPER');
  });
});
