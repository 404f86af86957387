import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunReport } from '../../src/report/events.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { holder, postgres, Stack, type StackOptions, sh } from '../harness/stack.ts';

interface PlanView {
  sources: { name: string; what: string; size?: number }[];
  problems: { code: string; severity: string; subject: string; message: string }[];
  notes: { subject: string; message: string }[];
}

interface Shown {
  sources: Record<
    string,
    {
      status: string;
      files: number;
      bytes: number;
      warnings: string[];
      summary: string;
      databases?: { name: string }[];
    }
  >;
}

/**
 * A project like those of real products: binds next to the Compose file, system files of the host, a secret,
 * directories that are still empty, one label for many services, a database whose directory is named in a script, a
 * server that keeps append-only files, and the project directory itself mounted at /config.
 */
describe('the Compose files of real products', () => {
  let stack: Stack;
  const named = `lbt-products-${process.pid}`;
  const label = { 'lifeboat.volumes': 'true' };
  const db = postgres(17, {
    // As in some vendors' images, no variable names the data directory.
    entrypoint: ['sh', '-c', 'export PGDATA=/cluster/main; exec docker-entrypoint.sh "$$@"', 'sh'],
    command: ['postgres'],
    volumes: ['./cluster:/cluster'],
    labels: { 'lifeboat.postgres': 'true', ...label },
  });
  const options: StackOptions = {
    services: {
      db,
      web: holder(
        [
          ...['./media:/media', 'uploads:/uploads', 'empty:/empty', '/etc/localtime:/etc/localtime'],
          ...['./acme.json:/acme.json', './nginx.conf:/etc/nginx/nginx.conf:ro'],
        ],
        label,
        { secrets: ['token'] },
      ),
      worker: holder(['./media:/app/media', 'uploads:/app/uploads'], label),
      beat: holder([], label),
      // Starts its server when the test triggers it.
      late: postgres(17, {
        entrypoint: ['sh', '-c', 'until [ -e /tmp/go ]; do sleep 0.1; done; exec docker-entrypoint.sh postgres'],
        healthcheck: { disable: true },
        profiles: ['late'],
      }),
      cache: holder(['cache-data:/data'], { 'lifeboat.volumes': 'cache-data' }),
      // Mounts single databases in what other services and the agent back up. The test starts it.
      single: holder(
        [
          './media/app.db:/app.db',
          './settings.db:/settings.db',
          `/var/lib/docker/volumes/${named}/_data/sub/../v.db:/v.db`,
        ],
        {},
        { profiles: ['single'] },
      ),
    },
    volumes: { uploads: {}, empty: {}, 'cache-data': { name: named } },
    secrets: { token: { file: './token.txt' } },
    agent: { volumes: ['.:/config:ro', './restored:/restored', './copy:/copy'] },
  };
  const file = (...names: string[]) => path.join(stack.directory, ...names);

  beforeAll(async () => {
    stack = await Stack.start({ services: { db }, startAgent: false });
    for (const name of ['media', 'restored', 'old', 'copy']) await mkdir(file(name));
    // A cluster that no container mounts any more.
    await writeFile(file('old', 'PG_VERSION'), '13');
    await mkdir(file('old', 'base'));
    await writeFile(file('media', 'photo.jpg'), 'photo'.repeat(1000));
    await writeFile(file('nginx.conf'), 'server {}');
    await writeFile(file('acme.json'), '{"certificates": 1}');
    await writeFile(file('token.txt'), 'the-secret-token');
    await stack.write(options);
    await stack.compose('up', '--detach', '--wait', '--wait-timeout', '280');
    await stack.exec('web', ['sh', '-c', 'echo one >/uploads/one']);
    // Named like old data, but the spool that records it is gone.
    await stack.psql('CREATE DATABASE postgres__before_4f1c9a');
    await stack.exec('cache', ['sh', '-c', 'mkdir /data/appendonlydir && echo x >/data/appendonlydir/a.aof']);
  });

  afterAll(() => stack?.destroy());

  it('plan reports in advance what is left out, shared, and copied while a server runs', async () => {
    const { stdout, code } = await stack.lifeboat('plan', '--json');
    const { sources, problems, notes } = JSON.parse(stdout) as PlanView;
    expect(code).toBe(0);
    const text = notes.map(({ subject, message }) => `${subject}: ${message}`).join('\n');
    expect(sources.map(({ name }) => name)).toEqual(
      [
        ...[
          'cache.lbt',
          'config',
          'db.cluster',
          'db.postgres',
          'web.acme-json',
          'web.empty',
          'web.media',
          'web.uploads',
        ],
      ].map((name) => (name === 'cache.lbt' ? `cache.${named}` : name)),
    );
    expect(problems).toEqual([
      expect.objectContaining({
        severity: 'warning',
        subject: expect.stringContaining('cache'),
        message: expect.stringMatching(/Redis.*appendonlydir|Redis/),
      }),
    ]);
    expect(text).toMatch(/^config: leaves out .*backups \(the backups\), cluster \(.*media \(source web\.media\)/m);
    expect(text).toMatch(/^config: leaves out old \(PostgreSQL\)/m);
    expect(text).toMatch(/^db\.cluster: leaves out main \(PostgreSQL\)/m);
    expect(text).toMatch(/^web: \/etc\/localtime is a file of the host's system/m);
    expect(text).toMatch(/^web: \/etc\/nginx\/nginx\.conf is a single file, mounted read-only/m);
    expect(text).toMatch(/^web: \/run\/secrets\/token is a secret/m);
    expect(text).toMatch(/^web\.empty: holds no files/m);
    expect(text).toMatch(/^web\.uploads: uploads is shared with worker and stored once/m);
    expect(text).toMatch(/^beat: /m);
    expect(text).toMatch(/^db\.postgres: database postgres__before_4f1c9a is not backed up/m);
  });

  it('a run succeeds, and the configuration does not grow with the backups', async () => {
    const sizes: number[] = [];
    for (const run of [1, 2]) {
      const { code, report } = await stack.backup();
      expect({ run, code, failed: report.results.filter(({ status }) => status !== 'ok') }).toEqual({
        ...{ run, code: 0, failed: [] },
      });
      const { sources } = await stack.json<Shown>('show', 'latest');
      sizes.push(sources.config!.files);
      expect(sources[`cache.${named}`]!.warnings.join()).toContain('lifeboat.stop');
      expect(sources['web.empty']!.files).toBe(0);
      expect(sources['db.cluster']!.files).toBe(0);
      expect(sources['db.postgres']!.warnings.join()).toContain('postgres__before_4f1c9a');
      expect(sources['db.postgres']!.databases!.map(({ name }) => name)).toEqual(['postgres']);
    }
    // The Compose file, nginx.conf and token.txt. acme.json is a separate source.
    expect(sizes).toEqual([3, 3]);
  });

  it('each run names the databases that it leaves out, and a restore never puts their data aside', async () => {
    const { sources } = await stack.json<Shown>('show', 'latest');
    expect(sources.config!.summary).toContain('without old (PostgreSQL)');
    expect(sources['db.cluster']!.summary).toContain('without main (PostgreSQL)');
    const inPlace = await stack.lifeboat('restore', 'latest', 'db.cluster', '--yes');
    expect(inPlace.code).toBe(1);
    expect(inPlace.stderr).toMatch(/TREE_TARGET_REFUSED.*--path/s);
    expect(await stack.psql('SELECT 1')).toBe('1');
  });

  it('a single file is restored as a file', async () => {
    const into = await stack.lifeboat('restore', 'latest', 'web.acme-json', '--to-directory', '/restored/acme');
    expect(into.code, into.stderr).toBe(0);
    expect(into.stdout).not.toMatch(/unavailable|stopped|swap/);
    expect(await stack.exec('lifeboat', ['cat', '/restored/acme/acme.json'])).toBe('{"certificates": 1}');
    expect(into.stderr).not.toContain('-wal');
    // A file that is equal needs no restore, whatever its time is. A restore does not replace one that differs.
    await writeFile(file('acme.json'), '{"certificates": 1}');
    const same = await stack.lifeboat('restore', 'latest', 'web.acme-json', '--yes');
    expect(same.code, same.stderr).toBe(4);
    expect(same.stderr).toMatch(/acme\.json is equal to the snapshot already/);
    const all = await stack.lifeboat('restore', 'latest', '--all', '--dry-run', '--json');
    const { failed } = JSON.parse(all.stdout) as RestoreResult;
    expect(failed?.map(({ target }) => target)).not.toContain('web.acme-json');
    await writeFile(file('acme.json'), '{"certificates": 2}');
    const inPlace = await stack.lifeboat('restore', 'latest', 'web.acme-json', '--yes');
    expect(inPlace.code).toBe(1);
    expect(inPlace.stderr).toMatch(
      /TREE_TARGET_REFUSED.*`lifeboat restore \d{8}T\d{6}Z-\w+ web\.acme-json --to-directory \/restored\/web\.acme-json`/s,
    );
    expect(inPlace.stderr).not.toContain('-wal');
    await writeFile(file('acme.json'), '{"certificates": 1}');
  });

  it('a server that has just started and does not respond counts as not ready yet', async () => {
    await stack.compose('--profile', 'late', 'up', '--detach', '--no-deps', 'late');
    const { stdout, code } = await stack.lifeboat('plan');
    expect(stdout).toMatch(/late\.postgres: is not ready yet/);
    expect(code, stdout).toBe(0);
    await stack.compose('--profile', 'late', 'rm', '--stop', '--force', '--volumes', 'late');
  });

  describe('plan reports the errors of the next run', () => {
    const keys = {
      LIFEBOAT_AGE_RECIPIENTS: 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p',
      LIFEBOAT_SIGNING_KEY: 'a-signing-key-of-enough-characters',
      LIFEBOAT_COPY: '/copy',
    };
    const lifeboat = (env: Record<string, string>, ...args: string[]) =>
      sh('docker', [
        'exec',
        ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
        `${stack.project}-lifeboat-1`,
        'lifeboat',
        ...args,
      ]);
    /** Returns the errors of a plan. They must be the same with and without `--json`. */
    const errors = async (env: Record<string, string>) => {
      const { code, stdout } = await lifeboat(env, 'plan', '--json');
      const problems = (JSON.parse(stdout) as PlanView).problems.filter(({ severity }) => severity === 'error');
      return { code, found: problems.map(({ code: why, subject }) => `${why} ${subject}`).sort() };
    };

    it('missing keys, and a copy that is not mounted', async () => {
      const run = await lifeboat(keys, 'backup', 'web.media');
      expect(run.code, run.stderr).toBe(0);
      expect(await errors(keys)).toEqual({ code: 0, found: [] });
      expect(await errors({ LIFEBOAT_COPY: '/nowhere' })).toEqual({
        code: 3,
        found: [
          'DEST_NOT_MOUNTED LIFEBOAT_COPY',
          'KEY_MISSING LIFEBOAT_ENCRYPTION',
          'SIGNATURE_KEY LIFEBOAT_SIGNING_KEY',
        ],
      });
    });

    it('a missing source, and an emptied volume and copy', async () => {
      await stack.exec('web', ['rm', '/uploads/one']);
      await stack.compose('rm', '--stop', '--force', 'cache');
      await stack.exec('lifeboat', ['sh', '-c', 'mkdir /restored/away && mv /copy/* /restored/away/']);
      expect(await errors(keys)).toEqual({
        code: 3,
        found: [
          'DEST_FOREIGN LIFEBOAT_COPY',
          expect.stringMatching(/^SOURCE_VANISHED cache\./),
          expect.stringMatching(/^TREE_EMPTY /),
        ],
      });
      await stack.exec('lifeboat', ['sh', '-c', 'mv /restored/away/* /copy/']);
    });

    it('an SQLite database that is mounted without its log', async () => {
      const database = new DatabaseSync(file('app.db'));
      database.exec('PRAGMA journal_mode = wal; CREATE TABLE t (i int)');
      database.close();
      await writeFile(file('acme.json'), await readFile(file('app.db')));
      await rm(file('app.db'));
      expect(await errors(keys)).toEqual({
        code: 3,
        found: expect.arrayContaining(['SQLITE_TORN web.acme-json']),
      });
      const run = await lifeboat(keys, 'backup', '--json', 'web.acme-json');
      const { results } = JSON.parse(run.stdout) as RunReport;
      expect(results, run.stderr).toMatchObject([{ status: 'partial', error: { code: 'SQLITE_TORN' } }]);
    });

    it('SQLite databases that another container mounts without their logs, in what is backed up', async () => {
      await mkdir(file('media', 'sub'));
      for (const name of ['media/app.db', 'settings.db']) await writeFile(file(name), '');
      await stack.compose('up', '--detach', '--no-deps', 'cache');
      await stack.exec('cache', ['touch', '/data/v.db']);
      await stack.compose('--profile', 'single', 'up', '--detach', '--no-deps', 'single');
      const sources = ['web.media', 'config', `cache.${named}`];
      const names = ['/app.db', '/settings.db', '/v.db'];
      // The application is killed, as with the memory limit, so the log stays in its container.
      const write = `const { DatabaseSync } = require('node:sqlite');
        for (const name of ${JSON.stringify(names)}) {
          const database = new DatabaseSync(name);
          database.exec('PRAGMA journal_mode = wal; CREATE TABLE t (i int); INSERT INTO t VALUES (1)');
        }
        process.kill(process.pid, 'SIGKILL');`;
      const killed = await sh('docker', ['exec', `${stack.project}-single-1`, 'node', '--eval', write]);
      expect(killed.code, killed.stderr).toBe(137);
      const torn = sources.map((name) => `SQLITE_TORN ${name}`);
      const expectTorn = async () => {
        expect(await errors(keys)).toEqual({ code: 3, found: expect.arrayContaining(torn) });
        const run = await lifeboat(keys, 'backup', '--json', ...sources);
        const { results } = JSON.parse(run.stdout) as RunReport;
        expect(
          results.map(({ name, status, error }) => [name, status, error?.code, error?.hint]).sort(),
          run.stderr,
        ).toEqual(
          sources
            .map((name) => [name, 'partial', 'SQLITE_TORN', expect.stringContaining('Mount the directory')])
            .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
        );
      };
      await expectTorn();
      await stack.compose('--profile', 'single', 'stop', 'single');
      await expectTorn();
      await stack.compose('--profile', 'single', 'rm', '--force', 'single');
      const { found } = await errors(keys);
      expect(found.filter((one) => torn.includes(one))).toEqual([]);
    });

    it('an emptied destination', async () => {
      await stack.exec('lifeboat', ['sh', '-c', 'mkdir /restored/main && mv /backups/* /restored/main/']);
      const { code, found } = await errors(keys);
      expect(code).toBe(3);
      expect(found).toContain('DEST_FOREIGN LIFEBOAT_DESTINATION');
    });
  });
});
