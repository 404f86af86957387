import { rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { holder, postgres, Stack, until } from '../harness/stack.ts';

/** A failed source stays reported after good runs of other sources, and so does a stale mounted file. */
let stack: Stack;
const env = () => path.join(stack.directory, 'settings.env');

interface Status {
  last: { status: string };
  sources: { name: string; attention: string | null; last: { status: string } | null; lastGood: object | null }[];
}
const attention = async () =>
  Object.fromEntries((await stack.json<Status>('status')).sources.map((one) => [one.name, one.attention]));
const lastPing = () => stack.receiver?.requests.findLast(({ path: at }) => at.startsWith('/ping/'));

beforeAll(async () => {
  stack = await Stack.start({
    services: { db: postgres(17), web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: {} },
  });
  await stack.exec('web', ['sh', '-c', 'echo hello > /data/file']);
  const { code } = await stack.backup();
  expect(code).toBe(0);
});
afterAll(() => stack?.destroy());

it('a good run of one source does not report success while another has failed', async () => {
  expect((await stack.lifeboat('status')).code).toBe(0);
  await stack.psql('CREATE ROLE boss SUPERUSER LOGIN');
  await stack.psql('ALTER ROLE postgres NOLOGIN', { user: 'boss' });
  const failed = await stack.backup('db.postgres');
  expect(failed.report.results[0]).toMatchObject({ name: 'db.postgres', status: 'failed' });
  expect(lastPing()?.path).toMatch(/\/fail$/);

  const good = await stack.backup('web.media');
  expect(good).toMatchObject({
    code: 0,
    report: { status: 'ok', others: [{ name: 'db.postgres', attention: 'failed' }] },
  });
  expect(lastPing()?.path).toMatch(/\/fail$/);
  expect(lastPing()?.body).toContain('backup ok, but db.postgres needs attention');
  expect(await attention()).toEqual({ 'db.postgres': 'failed', 'web.media': null });
  const shown = await stack.lifeboat('status');
  expect(shown.code).toBe(3);
  expect(shown.stdout).toMatch(/! db\.postgres: .*\(PG_/);
});

it('the first good run of the failed source reports success', async () => {
  await stack.psql('ALTER ROLE postgres LOGIN', { user: 'boss' });
  const { code } = await stack.backup('db.postgres');
  expect(code).toBe(0);
  await until('the success is told', async () => !lastPing()?.path.endsWith('/fail'));
  expect(await attention()).toEqual({ 'db.postgres': null, 'web.media': null });
  expect((await stack.lifeboat('status')).code).toBe(0);
});

it('a mounted file that an editor replaced is reported until the agent is restarted', async () => {
  await writeFile(env(), 'A=1\n');
  await stack.write({
    services: { db: postgres(17), web: holder(['media:/data'], { 'lifeboat.volumes': 'media' }) },
    volumes: { media: {} },
    agent: { volumes: [`${env()}:/config/.env:ro`, './restored:/restored'] },
  });
  await stack.compose('up', '--detach', '--wait', '--no-deps', 'lifeboat');
  const problems = async () => (await stack.json<{ problems: { code: string }[] }>('plan')).problems.map((p) => p.code);
  expect(await problems()).toEqual([]);
  await writeFile(`${env()}.new`, 'A=2\n');
  await rename(`${env()}.new`, env());
  expect(await problems()).toEqual(['CONFIG_STALE']);
  // The content that the mount still shows is stored.
  const { code, report } = await stack.backup('config');
  expect({ code, results: report.results }, JSON.stringify(report)).toMatchObject({
    code: 0,
    results: [{ name: 'config', status: 'ok', files: 1, warnings: [] }],
  });
  const restored = await stack.lifeboat('restore', 'latest', 'config', '--to-directory', '/restored/config');
  expect(restored.code, restored.stderr).toBe(0);
  expect(await stack.exec('lifeboat', ['cat', '/restored/config/.env'])).toBe('A=1\n');
  await stack.compose('restart', 'lifeboat');
  await until('it is seen anew', async () => (await problems()).length === 0);
});
