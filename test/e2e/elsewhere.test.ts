import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorInfo } from '../../src/base/errors.ts';
import type { RestoreResult } from '../../src/restore/context.ts';
import { holder, ok, postgres, Stack, sh } from '../harness/stack.ts';

/** Restores the backups of another host, which no longer exists. */
describe('a repository from elsewhere', () => {
  let lost: Stack;
  let here: Stack;
  const image = process.env.LIFEBOAT_TEST_IMAGE ?? 'lifeboat:test';

  beforeAll(async () => {
    lost = await Stack.start({
      services: {
        db: postgres(15, { environment: { POSTGRES_DB: 'shop' } }),
        web: holder(['media:/media'], { 'lifeboat.volumes': 'true' }),
      },
      volumes: { media: {} },
      receiver: false,
    });
    await lost.psql(
      `CREATE ROLE clerk NOLOGIN; CREATE ROLE app_login LOGIN PASSWORD 'login-canary' IN ROLE clerk; CREATE ROLE outsider LOGIN;
       CREATE TABLE t AS SELECT generate_series(1, 99) AS i; ALTER TABLE t OWNER TO clerk`,
      {
        database: 'shop',
      },
    );
    await lost.exec('web', [
      'sh',
      '-c',
      'mkdir /media/a; echo photo >/media/a/p; chmod 640 /media/a/p; chown 33:44 /media/a/p',
    ]);
    expect((await lost.backup()).report.status).toBe('ok');
    // The host is gone, but its backups are not.
    await lost.compose('down', '--volumes', '--timeout', '0');
  });
  afterAll(async () => {
    await here?.destroy();
    await lost?.destroy();
  });

  it('restores files and dumps with only the image: no engine, no network, and read-only backups', async () => {
    const restored = path.join(lost.directory, 'restored');
    await mkdir(restored);
    const run = (...args: string[]) =>
      sh('docker', [
        ...['run', '--rm', '--network', 'none', '--volume', `${lost.directory}/backups:/from:ro`],
        ...['--volume', `${restored}:/restored`, image, 'restore', '--from', '/from', ...args],
      ]);
    const media = await run('latest', 'web.media', '--to-directory', '/restored/media');
    expect(media.code, media.stdout + media.stderr).toBe(0);
    // Neither the read-only backups nor the missing engine is a problem here.
    expect(media.stderr).not.toMatch(/"level":|warn/i);
    expect(await readFile(path.join(restored, 'media/a/p'), 'utf8')).toBe('photo\n');
    expect(await ok('stat', ['-c', '%a %u:%g', path.join(restored, 'media/a/p')])).toBe('640 33:44\n');
    const dump = await run('latest', 'db.postgres', '--to-directory', '/restored/dump');
    expect(dump.code, dump.stdout + dump.stderr).toBe(0);
    expect(await ok('ls', [path.join(restored, 'dump/databases/shop/toc.dat')])).toContain('toc.dat');
    // Not into the container itself, with which the files would be lost.
    const inside = await run('latest', 'web.media', '--to-directory', '/tmp/media', '--json');
    expect((JSON.parse(inside.stdout) as { error: ErrorInfo }).error.code).toBe('TREE_TARGET_REFUSED');
  });

  it('restores a database to another project with a newer server, with its missing roles', async () => {
    here = await Stack.start({
      services: { db: postgres(17, { environment: { POSTGRES_DB: 'shop' } }) },
      agent: { volumes: [`${lost.directory}/backups:/from:ro`] },
      receiver: false,
    });
    await here.psql('CREATE TABLE present AS SELECT 1 AS i', { database: 'shop' });
    const restore = (...args: string[]) =>
      here.lifeboat('restore', '--from', '/from', 'latest', 'db.postgres', '--json', ...args);
    const unasked = await restore();
    expect((JSON.parse(unasked.stdout) as { error: ErrorInfo }).error.code).toBe('NOT_CONFIRMED');
    const ran = await restore('--yes');
    expect(ran.code, ran.stdout + ran.stderr).toBe(0);
    const result = JSON.parse(ran.stdout) as RestoreResult;
    expect(result.safety).toBeUndefined();
    const kept = result.restored.find(({ target }) => target === 'shop')?.kept as string;
    expect(await here.psql('SELECT count(*) FROM t', { database: 'shop' })).toBe('99');
    expect(
      await here.psql("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 't'", { database: 'shop' }),
    ).toBe('clerk');
    // The owner cannot log in. Its member can, with the old password.
    const login = ['psql', '-At', '-h', 'db', '-U', 'app_login', '-d', 'shop', '-c', 'SELECT count(*) FROM t'];
    expect(await here.exec('db', ['env', 'PGPASSWORD=login-canary', ...login])).toBe('99\n');
    expect(result.warnings).toEqual([expect.stringMatching(/roles outsider of the snapshot .*--globals/)]);
    expect(await here.psql('SELECT i FROM present', { database: kept })).toBe('1');
    expect((await here.lifeboat('rollback', '--yes')).code).toBe(0);
    expect(await here.psql('SELECT i FROM present', { database: 'shop' })).toBe('1');
  });

  it('lists its projects if the named one does not exist', async () => {
    const ran = await here.lifeboat(
      'restore',
      '--from',
      '/from',
      '--project',
      'nobody',
      'latest',
      'db.postgres',
      '--json',
    );
    const { error } = JSON.parse(ran.stdout) as { error: ErrorInfo };
    expect({ code: ran.code, error: error.code }).toEqual({ code: 4, error: 'SNAPSHOT_UNKNOWN' });
    expect(error.hint).toContain(lost.project);
  });
});
