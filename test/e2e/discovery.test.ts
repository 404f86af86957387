import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { holder, ok, postgres, Stack, type StackOptions, sh, until } from '../harness/stack.ts';

interface PlanView {
  sources: { name: string }[];
  problems: { code: string; severity: string; subject: string }[];
}

/** A project that changes while the agent runs. */
describe('the sources follow the project', () => {
  let stack: Stack;
  const stranger = `lbt-stranger-${process.pid}`;
  const options = (web: Record<string, string>): StackOptions => ({
    env: { LIFEBOAT_SCHEDULE: '0 0 1 1 *' },
    services: {
      db: postgres(17),
      web: holder(['media:/media', 'cache:/cache'], web),
      extra: holder(['extra:/data'], { 'lifeboat.volumes': 'extra' }),
    },
    volumes: { media: {}, cache: {}, extra: {} },
    agent: { volumes: ['media:/v/media:ro', 'cache:/v/cache:ro', 'extra:/v/extra:ro', './restored:/restored'] },
  });
  const plan = () => stack.json<PlanView>('plan');
  const names = async () => (await plan()).sources.map(({ name }) => name);
  const logged = async (part: string) =>
    (await stack.logs('lifeboat')).split('\n').filter((line) => line.includes(part));

  beforeAll(async () => {
    stack = await Stack.start(options({ 'lifeboat.volumes': 'media' }));
    await stack.psql('CREATE TABLE t AS SELECT i, md5(i::text) AS v FROM generate_series(1, 10000) i');
    await stack.psql('CREATE DATABASE blog');
    await stack.exec('web', [
      'sh',
      '-c',
      'for i in $(seq 40); do head -c 20000 /dev/urandom > /media/$i; done; echo x > /cache/x',
    ]);
    await stack.exec('extra', ['sh', '-c', 'echo extra > /data/file']);
  });
  afterAll(async () => {
    await sh('docker', ['rm', '--force', '--volumes', stranger]);
    await stack?.destroy();
  });

  it('are only those of the own project', async () => {
    const labels = ['com.docker.compose.project=another', 'com.docker.compose.service=web', 'lifeboat.volumes=true'];
    await ok('docker', [
      ...['run', '--detach', '--name', stranger, '--volume', '/data', ...labels.flatMap((label) => ['--label', label])],
      ...['node:24-trixie-slim', 'sleep', '600'],
    ]);
    expect(await names()).toEqual(['db.postgres', 'extra.extra', 'web.media']);
    const { code, report } = await stack.backup();
    expect({ code, names: report.results.map(({ name }) => name).sort() }).toEqual({
      code: 0,
      names: ['db.postgres', 'extra.extra', 'web.media'],
    });
  });

  it('a recreated container is the same source, and nothing is stored twice', async () => {
    await stack.compose('up', '--detach', '--wait', '--no-deps', '--force-recreate', 'web', 'db');
    const { code, report } = await stack.backup();
    expect(code, JSON.stringify(report)).toBe(0);
    expect(report.results.map(({ name, newFiles }) => ({ name, newFiles }))).toContainEqual({
      name: 'web.media',
      newFiles: 0,
    });
    expect(report.results.find(({ name }) => name === 'web.media')?.lastGood).toBeDefined();
  });

  it('a new or mistyped label takes effect at once, without a restart of the agent', async () => {
    const agent = await stack.id('lifeboat');
    await stack.write(options({ 'lifeboat.volumes': 'media, cache', 'lifeboat.volume': 'typo' }));
    await stack.compose('up', '--detach', '--wait', '--no-deps', 'web');
    await until('the daemon noticed', async () => (await logged('"added":["web.cache"]')).length > 0);
    expect((await logged('LABEL_UNKNOWN')).join('\n')).toContain('did you mean lifeboat.volumes?');
    const now = await plan();
    expect(now.sources.map(({ name }) => name)).toContain('web.cache');
    expect(now.problems).toMatchObject([{ code: 'LABEL_UNKNOWN', severity: 'error', subject: 'web' }]);
    expect((await stack.lifeboat('plan')).code).toBe(3);
    // The valid part of the labels is backed up, and the run reports that something is missing.
    const { code, report } = await stack.backup('web.cache');
    expect({ code, status: report.status, results: report.results.map(({ status }) => status) }).toEqual({
      code: 3,
      status: 'partial',
      results: ['ok'],
    });
    expect(await stack.id('lifeboat')).toBe(agent);
    expect(await logged('"msg":"ready"')).toHaveLength(1);
    await stack.write(options({ 'lifeboat.volumes': 'media, cache' }));
    await stack.compose('up', '--detach', '--wait', '--no-deps', 'web');
  });

  it('a missing database, and a drop of rows and files by nine tenths, cause warnings', async () => {
    await stack.psql('DELETE FROM t WHERE i > 1000');
    await stack.psql('DROP DATABASE blog');
    await stack.exec('web', ['sh', '-c', 'cd /media && ls | tail -n +5 | xargs rm']);
    const { code, report } = await stack.backup();
    expect({ code, status: report.status }, JSON.stringify(report)).toEqual({ code: 0, status: 'ok' });
    const warnings = Object.fromEntries(report.results.map((result) => [result.name, result.warnings.join('\n')]));
    const [gone, rows, bytes] = (warnings['db.postgres'] ?? '').split('\n');
    expect(gone).toBe('database blog is not in this backup, and was in the last good one');
    expect(rows).toMatch(/^database \w+: rows fell by 90 % since the last good snapshot: from 10,000 to 1,000$/);
    expect(bytes).toMatch(/^size in bytes fell by \d\d % /);
    expect(warnings['web.media']).toMatch(/size in bytes fell by 90 %.*\nnumber of files fell by 90 %/);
    const messages = stack.receiver?.requests.filter(({ path }) => path.startsWith('/services/')) ?? [];
    expect(messages.at(-1)?.body).toContain('fell by 90 %');
    // Later runs are compared with the new size.
    expect((await stack.backup()).report.results.flatMap((result) => result.warnings)).toEqual([]);
  });

  it('a stopped database and a missing source are failures until they are accepted', async () => {
    await stack.compose('stop', 'db');
    const stopped = await stack.backup();
    await stack.compose('start', 'db');
    expect(stopped.code).toBe(3);
    // One trouble is said once, with the command that ends it.
    expect(stopped.report.problems).toEqual([]);
    const down = stopped.report.results.find(({ name }) => name === 'db.postgres');
    expect(down?.error).toMatchObject({
      code: 'CONTAINER_STOPPED',
      hint: expect.stringMatching(/^Start it with `docker compose start db`/),
    });
    expect(down?.error?.hint).not.toContain('accept');
    // An acceptance in advance would hide the next loss.
    const early = await stack.lifeboat('accept', 'extra.extra');
    expect([early.code, early.stderr]).toEqual([4, expect.stringContaining('NOTHING_TO_ACCEPT')]);

    await stack.compose('rm', '--stop', '--force', 'extra');
    for (const run of [1, 2]) {
      const { code, report } = await stack.backup();
      expect(code, `run ${run}: ${JSON.stringify(report)}`).toBe(3);
      const gone = report.results.find(({ name }) => name === 'extra.extra');
      expect(gone).toMatchObject({ status: 'failed', error: { code: 'SOURCE_VANISHED' } });
      expect(gone?.lastGood).toBeDefined();
      expect(gone?.error?.hint).toContain('lifeboat accept extra.extra');
    }
    expect((await stack.lifeboat('accept', 'nobody.here')).code).toBe(4);
    expect((await stack.lifeboat('accept', 'extra.extra')).code).toBe(0);
    expect((await stack.json<{ last: { status: string } }>('status')).last.status).toBe('ok');
    const { code, report } = await stack.backup();
    expect({ code, status: report.status, names: report.results.map(({ name }) => name) }).toEqual({
      code: 0,
      status: 'ok',
      names: expect.not.arrayContaining(['extra.extra']),
    });
    // Its snapshots stay, and a source that returns works as before.
    const restored = await stack.lifeboat('restore', 'latest', 'extra.extra', '--to-directory', '/restored/extra');
    expect(restored.code, restored.stderr).toBe(0);
    await stack.compose('up', '--detach', '--wait', '--no-deps', 'extra');
    const back = await stack.backup();
    expect(back.report.results).toContainEqual(expect.objectContaining({ name: 'extra.extra', status: 'ok' }));
  });

  it('status, snapshots and show agree', async () => {
    const { snapshots } = await stack.json<{ snapshots: { id: string; status: string }[] }>('snapshots');
    const status = await stack.json<{
      last: { snapshot: string; status: string };
      running: null;
      sources: { name: string; lastGood: { snapshot: string } }[];
      snapshots: number;
    }>('status');
    expect(status).toMatchObject({ running: null, snapshots: snapshots.length, last: { status: 'ok' } });
    expect(status.last.snapshot).toBe(snapshots[0]?.id);
    expect(status.sources.map(({ name, lastGood }) => [name, lastGood.snapshot])).toEqual(
      ['db.postgres', 'extra.extra', 'web.cache', 'web.media'].map((name) => [name, snapshots[0]?.id]),
    );
    const shown = await stack.json<{ id: string; sources: object }>('show', 'latest');
    expect(shown.id).toBe(snapshots[0]?.id);
    expect(Object.keys(shown.sources).sort()).toEqual(['db.postgres', 'extra.extra', 'web.cache', 'web.media']);
    // The drop is reported until a user accepts it.
    expect((await stack.lifeboat('status')).code).toBe(3);
    for (const source of ['db.postgres', 'web.media']) expect((await stack.lifeboat('accept', source)).code).toBe(0);
    const text = await stack.lifeboat('status');
    expect(text.code, text.stdout).toBe(0);
    // As if the project had been renamed.
    const other = path.join(stack.directory, 'backups/former/snapshots/20260101T000000Z-aaaaaa');
    await mkdir(other, { recursive: true });
    await writeFile(path.join(other, 'manifest.json'), '{}');
    const missing = await stack.lifeboat('restore', 'latest', 'db.unknown', '--dry-run');
    expect([missing.code, missing.stderr]).toEqual([4, expect.stringContaining('--from /backups --project former')]);
    const second = await stack.lifeboat('daemon');
    expect([second.code, second.stderr]).toEqual([11, expect.stringContaining('another daemon of this project runs')]);
    expect(text.stdout).toMatch(/Last run .* ago|Last run just now/);
    expect(text.stdout).toContain('web.media');
  });
});
