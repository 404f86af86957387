import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RestoreResult } from '../../src/restore/context.ts';
import { healthcheck, ok, postgres, Stack, sh } from '../harness/stack.ts';

/** The check calls a function that finds another one only with the search_path of the database. */
const SCHEMA = `
  CREATE FUNCTION limit_of(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 10000';
  CREATE FUNCTION fits(int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < limit_of($1)';
  CREATE TABLE orders (id int PRIMARY KEY CHECK (fits(id)), body bytea, note text);
  CREATE INDEX ON orders (lower(note));
  INSERT INTO orders SELECT i, decode(repeat(md5(i::text), 20), 'hex'), E'größe\\n' || i FROM generate_series(1, 2000) i;
  CREATE TABLE lines (order_id int REFERENCES orders); INSERT INTO lines SELECT generate_series(1, 50);
  COMMENT ON TABLE orders IS E'SELECT 1;\\nSELECT pg_catalog.set_config(''search_path'', '''', false);\\n';`;

const CONTENT = `SELECT count(*), md5(string_agg(o::text, ',' ORDER BY id)), obj_description('orders'::regclass) FROM orders o`;

/** A server from Alpine's own packages has no bash. It also runs as `postgres` from the start. */
const WITHOUT_BASH = `FROM postgres:17-alpine
RUN rm /bin/bash /usr/local/bin/docker-entrypoint.sh
USER postgres
ENTRYPOINT []
CMD ["sh", "-c", "initdb --auth=trust >/dev/null && exec postgres -c listen_addresses=127.0.0.1"]`;

const WITHOUT_SHELL = `FROM alpine:3
RUN rm /bin/sh /bin/ash
CMD ["/bin/busybox", "sleep", "86400"]`;

/** Lists a volume as BusyBox can, without the database and what Lifeboat and the hooks left there. */
const LISTING = `cd /data; list() { find . -name '.lifeboat*' -prune -o ! -name '*-ran' ! -name 'app.db*' ! -name . "$@" -print; }
  list | xargs stat -c '%n %a %u:%g %Y %N' | sort; list -type f | xargs md5sum | sort`;

/** A project of images in which BusyBox is every tool. */
describe('a project of Alpine images', () => {
  const tag = `lbt-alpine-${randomBytes(4).toString('hex')}`;
  const [withoutBash, withoutShell] = [`${tag}:bash`, `${tag}:shell`];
  const fragile = expect.stringContaining('constraint orders_id_check of public.orders is stored');
  let stack: Stack;
  let rows: string;
  const content = () => stack.psql(CONTENT, { database: 'app' });
  const files = () => stack.exec('web', ['sh', '-c', LISTING]);
  const restore = async (...args: string[]) => {
    const ran = await stack.lifeboat('restore', 'latest', ...args, '--yes', '--json');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    return JSON.parse(ran.stdout) as RestoreResult;
  };

  beforeAll(async () => {
    await ok('docker', ['build', '--quiet', '--tag', withoutBash, '-'], { input: WITHOUT_BASH });
    await ok('docker', ['build', '--quiet', '--tag', withoutShell, '-'], { input: WITHOUT_SHELL });
    const hook = (what: string) => `sh -c 'test "$(cat /proc/1/comm)" = sleep && date >/data/${what}-ran'`;
    stack = await Stack.start({
      services: {
        db: postgres('17-alpine', { environment: { POSTGRES_DB: 'app' } }),
        plain: postgres(17, { image: withoutBash }),
        socket: postgres('17-alpine', {
          command: ['postgres', '-c', 'listen_addresses='],
          volumes: ['socket:/var/run/postgresql'],
          healthcheck: healthcheck('pg_isready -q -h /var/run/postgresql'),
        }),
        web: {
          image: 'alpine:3',
          command: ['sleep', '86400'],
          init: false,
          stop_grace_period: '1s',
          volumes: ['data:/data'],
          depends_on: ['db'],
          labels: {
            'lifeboat.volumes': 'data',
            'lifeboat.volumes.exclude': '*-ran',
            'lifeboat.exec.pre': hook('pre'),
            'lifeboat.exec.post': hook('post'),
            'lifeboat.exec.restored': hook('restored'),
          },
        },
        bare: {
          image: withoutShell,
          init: true,
          volumes: ['bare:/data'],
          labels: { 'lifeboat.volumes': 'bare', 'lifeboat.exec.pre': "sh -c 'true'" },
        },
      },
      volumes: { data: {}, bare: {}, socket: {} },
      receiver: false,
    });
    await stack.psql(SCHEMA, { database: 'app' });
    rows = await content();
    await stack.psql('CREATE TABLE t AS SELECT generate_series(1, 20) AS n', { service: 'plain' });
    await stack.exec('web', [
      'sh',
      '-c',
      `umask 027; cd /data; mkdir -p a/deep; echo hello >a/deep/file; dd if=/dev/urandom of=a/big bs=64k count=4 2>/dev/null
       ln -s a/big link; ln a/big hard; chown 70:1234 a/deep/file; chmod 4755 a/big; touch -d '2001-02-03 04:05:06' a`,
    ]);
    // The agent has the only SQLite library of the project.
    const sqlite = `const { DatabaseSync } = require('node:sqlite'); const db = new DatabaseSync('/tmp/app.db');
      db.exec("PRAGMA journal_mode = WAL; CREATE TABLE t (v); INSERT INTO t VALUES ('kept')");
      for (const s of ['', '-wal', '-shm']) require('node:fs').copyFileSync('/tmp/app.db' + s, '/backups/app.db' + s)`;
    await stack.exec('lifeboat', ['node', '-e', sqlite]);
    for (const suffix of ['', '-wal', '-shm']) {
      await ok('docker', ['cp', `${stack.directory}/backups/app.db${suffix}`, `${await stack.id('web')}:/data/`]);
      await stack.exec('lifeboat', ['rm', `/backups/app.db${suffix}`]);
    }
  });
  afterAll(async () => {
    await stack?.destroy();
    await sh('docker', ['image', 'rm', '--force', withoutBash, withoutShell]);
  });

  it('is backed up whole, and an unchanged backup stores next to nothing', async () => {
    const { problems } = await stack.json<{ problems: { subject: string }[] }>('plan');
    expect(problems.filter(({ subject }) => /^db\b/.test(subject))).toEqual([]);
    const { report, stderr } = await stack.backup('db.postgres', 'web.data');
    expect([report.status, report.results], stderr).toEqual([
      'ok',
      [
        expect.objectContaining({ name: 'db.postgres', status: 'ok', warnings: [fragile] }),
        expect.objectContaining({ name: 'web.data', status: 'ok' }),
      ],
    ]);
    expect(await stack.exec('web', ['ls', '/data'])).toMatch(/post-ran\npre-ran/);
    const again = (await stack.backup('db.postgres', 'web.data')).report;
    const stored = Object.fromEntries(again.results.map(({ name, newBytes }) => [name, newBytes]));
    // A dump's table of contents has the time in it.
    expect(stored['db.postgres']).toBeLessThan(5000);
    expect(stored['web.data']).toBe(0);
    const check = await stack.lifeboat('check');
    expect(check.code, check.stdout + check.stderr).toBe(0);
    expect(await stack.helpers()).toEqual([]);
  });

  it('is restored in place, and rolled back', async () => {
    const tree = await files();
    await stack.psql('DROP TABLE lines; DELETE FROM orders WHERE id > 5', { database: 'app' });
    const damaged = await content();
    await stack.exec('web', ['sh', '-c', 'cd /data; rm -rf a link app.db*; echo new >hard; touch added']);
    const result = await restore('db.postgres');
    expect(result.warnings).toEqual([]);
    expect(await content()).toBe(rows);
    await restore('web.data', '--no-safety');
    expect(await stack.exec('web', ['ls', '/data'])).toContain('restored-ran');
    expect(await files()).toBe(tree);
    const read = `const { DatabaseSync } = require('node:sqlite');
      console.log(new DatabaseSync('/tmp/app.db', { readOnly: true }).prepare('SELECT v FROM t').get().v)`;
    await ok('sh', [
      '-c',
      `docker cp "$0":/data/app.db - | docker cp - "$1":/tmp`,
      await stack.id('web'),
      await stack.id('lifeboat'),
    ]);
    expect(await stack.exec('lifeboat', ['node', '-e', read])).toBe('kept\n');
    const back = await stack.lifeboat('rollback', result.id, '--yes');
    expect(back.code, back.stderr).toBe(0);
    expect(await content()).toBe(damaged);
  });

  it('gets back a single table whose functions need the search_path of the database', async () => {
    await stack.psql('DROP TABLE orders CASCADE', { database: 'app' });
    const { restored } = await restore('db.postgres', '--database', 'app', '--table', 'orders', '--no-safety');
    expect(restored).toEqual([{ target: 'app: public.orders', rows: 2000 }]);
    expect(await content()).toBe(rows);
  });

  it('gets a warning when its data was sorted by another C library', async () => {
    // As after a change from postgres:17 to postgres:17-alpine with the same volume.
    await stack.psql("UPDATE pg_database SET datcollversion = '2.36' WHERE datname = 'app'");
    const { report } = await stack.backup('db.postgres');
    expect(report.results[0]?.warnings).toContain(
      'database app: collation version 2.36 was recorded, the system has none; text indexes may need REINDEX',
    );
  });

  it('needs no bash, and is named with what else an image lacks', async () => {
    const { report } = await stack.backup('plain.postgres', 'socket.postgres', 'bare.bare');
    const [bare, plain, socket] = report.results.toSorted((a, b) => a.name.localeCompare(b.name));
    expect(plain, JSON.stringify(report)).toMatchObject({ name: 'plain.postgres', status: 'ok', warnings: [] });
    expect(socket?.error).toMatchObject({ code: 'PG_UNREACHABLE', hint: expect.stringContaining('has no perl') });
    expect(bare?.error).toMatchObject({
      code: 'HOOK_FAILED',
      hint: expect.stringContaining('command "sh" of the label lifeboat.exec.pre'),
    });
    await stack.psql('DROP TABLE t', { service: 'plain' });
    await restore('plain.postgres', '--no-safety');
    expect(await stack.psql('SELECT count(*) FROM t', { service: 'plain' })).toBe('20');
  });
});
