import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, postgres, Stack } from '../harness/stack.ts';

/** The steps of the README: label, back up, lose the data, restore it. */
describe('a labelled project', () => {
  let stack: Stack;

  beforeAll(async () => {
    stack = await Stack.start({
      services: { db: postgres(17), web: holder(['media:/app/media'], { 'lifeboat.volumes': 'media' }) },
      volumes: { media: {} },
    });
    await stack.psql('CREATE DATABASE app');
    await stack.psql(
      'CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i',
      {
        database: 'app',
      },
    );
    await stack.exec('web', [
      'sh',
      '-c',
      'mkdir -p /app/media/a && echo hello > /app/media/a/hello.txt && chown 1234:55 /app/media/a/hello.txt',
    ]);
  });
  afterAll(() => stack?.destroy());

  it('backs up everything, and restores a lost database and volume', async () => {
    const { code, report, stderr } = await stack.backup();
    expect({ code, status: report.status }, stderr + JSON.stringify(report, null, 1)).toEqual({
      code: 0,
      status: 'ok',
    });
    expect(await stack.helpers()).toEqual([]);

    await stack.psql('DROP DATABASE app WITH (FORCE)');
    await stack.exec('web', ['sh', '-c', 'rm -rf /app/media/*']);
    const database = await stack.lifeboat('restore', 'latest', 'db.postgres');
    expect(database.code, database.stderr).toBe(0);
    const volume = await stack.lifeboat('restore', 'latest', 'web.media');
    expect(volume.code, volume.stderr).toBe(0);
    expect(
      await stack.psql("SELECT count(*), sum(id), md5(string_agg(v, ',' ORDER BY id)) FROM t", { database: 'app' }),
    ).toBe(
      await stack.psql(
        "SELECT 1000, 500500, md5(string_agg(md5(i::text), ',' ORDER BY i)) FROM generate_series(1, 1000) i",
      ),
    );
    expect(
      await stack.exec('web', ['sh', '-c', 'cat /app/media/a/hello.txt; stat -c %u:%g /app/media/a/hello.txt']),
    ).toBe('hello\n1234:55\n');
  });

  it('starts its commands from the compiled code in the image', async () => {
    // A command that compiles a module would store the result in its container at the end.
    expect(await ok('docker', ['diff', await stack.id('lifeboat')])).not.toMatch(/^. \/lifeboat\b.*$/m);
  });

  it('pinged start and success with one rid, and posted to Slack', () => {
    const requests = stack.receiver?.requests ?? [];
    // Restores are logged with the check and posted to Slack, in separate messages.
    const pings = requests.filter(({ path }) => path.startsWith('/ping/') && !path.endsWith('/log'));
    expect(pings.map(({ path }) => path.split('/').slice(3).join('/'))).toEqual(['start', '']);
    expect(new Set(pings.map(({ query }) => query.rid)).size).toBe(1);
    const messages = requests.filter(({ path }) => path.startsWith('/services/'));
    expect(messages.filter(({ body }) => body.includes('backup ok'))).toHaveLength(1);
    expect(messages.filter(({ body }) => body.includes('restore of'))).toHaveLength(4);
  });
});
