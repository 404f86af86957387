import { mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectAccessible, launchBrowser, VIEWS } from '../harness/browser.ts';
import { type Prometheus, startPrometheus } from '../harness/prometheus.ts';
import { type SocketProxy, startSocketProxy } from '../harness/socket-proxy.ts';
import { holder, hostAddress, ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/**
 * The page, the API, the metrics and the health check of a real daemon, after a real backup and a real drill. The last
 * tests take the destination and the engine away.
 */

const ALL: Record<string, RegExp> = { GET: /./, POST: /./, DELETE: /./, PUT: /./, HEAD: /./ };

let proxy: SocketProxy;
let stack: Stack;
let browser: Browser;
let prometheus: Prometheus;
let base: string;
let directory: string;
let snapshot: string;

const api = async (at: string) => (await fetch(`${base}/api/${at}`)).json();

/** The health check: its status, and the checks that failed, with their reasons. */
async function health() {
  const response = await fetch(`${base}/healthz`);
  const { checks } = (await response.json()) as { checks: { name: string; ok: boolean; why?: string }[] };
  return { status: response.status, bad: checks.filter((one) => !one.ok).map(({ name, why }) => `${name}: ${why}`) };
}

/** Reads a stream of events until it has a text. */
async function readUntil(response: Response, end: string): Promise<string> {
  let text = '';
  for await (const part of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += part;
    if (text.includes(end)) break;
  }
  return text;
}

beforeAll(async () => {
  const socket = (process.env.DOCKER_HOST ?? 'unix:///var/run/docker.sock').replace('unix://', '');
  proxy = await startSocketProxy(socket, ALL);
  directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-page-'));
  stack = await Stack.start({
    services: {
      db: postgres(17),
      web: holder(['media:/media'], {
        'lifeboat.volumes': 'media',
        'lifeboat.exec.pre': 'sh /pause.sh',
      }),
    },
    volumes: { media: {} },
    env: {
      LIFEBOAT_HTTP_PORT: '8080',
      DOCKER_HOST: `tcp://${await hostAddress()}:${proxy.port}`,
    },
  });
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  base = `http://${(await ok('docker', ['inspect', '--format', format, await stack.id('lifeboat')])).trim()}:8080`;
  await stack.exec('web', [
    'sh',
    '-c',
    'echo sleep 0 > /pause.sh; mkdir /media/photos; echo x > "/media/photos/<b>größe.jpg"',
  ]);
  await stack.psql('CREATE TABLE orders AS SELECT generate_series(1, 100) AS n');
  const config = `{ global: { scrape_interval: 5s }, scrape_configs: [{ job_name: lifeboat, static_configs: [{ targets: ['${base.slice(7)}'] }] }] }`;
  [browser, prometheus] = await Promise.all([launchBrowser(), startPrometheus(directory, config)]);
});

afterAll(async () => {
  await Promise.all([browser?.close(), prometheus?.stop(), stack?.destroy()]);
  await proxy?.close();
  await rm(directory, { recursive: true, force: true });
});

it('before the first backup, the page says so, and the health check is good', async () => {
  expect(await (await fetch(base)).text()).toContain('No backup yet of db.postgres and web.media.');
  expect(await health()).toEqual({ status: 200, bad: [] });
});

it('shows a run in progress, and itself again at its end', async () => {
  await stack.exec('web', ['sh', '-c', 'echo sleep 8 > /pause.sh']);
  const backup = stack.backup();
  const page = await browser.newPage();
  await until('the page shows the run', async () => {
    await page.goto(base);
    return (await page.locator('#run progress').count()) === 2;
  });
  expect(await page.textContent('#run')).toContain('A backup is in progress');
  const events = await fetch(`${base}/api/events`);
  const { report } = await backup;
  const text = await readUntil(events, 'event: end');
  expect(text).toContain('event: progress');
  expect(text).toContain(`"id":"${report.id}"`);
  expect(text).toContain('event: end');
  await page.waitForSelector('#run', { state: 'detached' });
  await until('the page shows the result', async () => (await page.textContent('h1')) === 'All two sources are safe.');
  snapshot = report.snapshot ?? '';
  await stack.exec('web', ['sh', '-c', 'echo sleep 0 > /pause.sh']);
  await page.close();
});

it('the API says the same as the commands', async () => {
  expect((await stack.lifeboat('drill', 'web.media')).code).toBe(0);
  const commands: Record<string, string[]> = {
    status: ['status'],
    snapshots: ['snapshots'],
    windows: ['windows'],
    drills: ['drills'],
    [`snapshots/${snapshot}`]: ['show', snapshot],
  };
  for (const [at, command] of Object.entries(commands)) {
    const expected = await stack.json(...command);
    expect({ at, answer: await api(at) }).toEqual({ at, answer: expected });
  }
});

it('Prometheus scrapes the metrics', async () => {
  const { stdout } = await stack.lifeboat('snapshots', '--json');
  const [{ end }] = (JSON.parse(stdout) as { snapshots: [{ end: string }] }).snapshots;
  const samples = await until('the backup is scraped', async () => {
    const found = await prometheus.query('lifeboat_backup_last_success_timestamp_seconds');
    return found.length === 2 && found;
  });
  expect(samples.map(({ metric }) => [metric.project, metric.source]).sort()).toEqual([
    [stack.project, 'db.postgres'],
    [stack.project, 'web.media'],
  ]);
  for (const { value } of samples) expect(Number(value[1])).toBeCloseTo(Date.parse(end) / 1000, 2);
  for (const query of ['lifeboat_drill_ok{source="web.media"} == 1', 'up == 1'])
    await until(query, async () => (await prometheus.query(query)).length === 1);
});

describe('the pages', () => {
  it.each(VIEWS)('have no barrier at $width, $colorScheme', async ({ width, colorScheme }) => {
    const [{ id }] = ((await api('drills')) as { drills: [{ id: string }] }).drills;
    const files = `/snapshots/${snapshot}/files?source=web.media`;
    const photos = `${files}&directory=${Buffer.from('photos').toString('base64url')}`;
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    for (const at of [
      '/',
      '/snapshots',
      `/snapshots/${snapshot}`,
      files,
      photos,
      '/drills',
      `/drills/${id}`,
      '/retention',
    ])
      await expectAccessible(page, base + at);
    await page.goto(`${base}/snapshots/${snapshot}`);
    expect(await page.textContent('main')).toContain('public.orders');
    await page.goto(base + photos);
    expect(await page.textContent('main')).toContain('<b>größe.jpg');
    await context.close();
  });
});

it('a destination that is gone fails the health check and leads the page, until it is back', async () => {
  const backups = path.join(stack.directory, 'backups');
  const away = path.join(stack.directory, 'away');
  const move = async (from: string, to: string) => {
    for (const name of await readdir(from)) await rename(path.join(from, name), path.join(to, name));
  };
  await ok('mkdir', [away]);
  await move(backups, away);
  // The run that fails shows the daemon that something has happened.
  expect((await stack.lifeboat('backup', 'web.media')).code).not.toBe(0);
  const { bad } = await until('the health check notices', async () => {
    const found = await health();
    return found.status === 503 && found;
  });
  expect(bad).toEqual([expect.stringMatching(/^destination: (DEST|REPO)_\w+$/)]);
  expect(await (await fetch(base)).text()).toContain('The backups at /backups cannot be read.');
  await move(away, backups);
  await until('the destination is back', async () => (await health()).status === 200, 60_000);
  expect(await (await fetch(base)).text()).not.toContain('cannot be read');
});

it('every line of the log is JSON', async () => {
  const { stdout, stderr } = await sh('docker', ['logs', await stack.id('lifeboat')]);
  const lines = `${stdout}${stderr}`.split('\n').filter((line) => line !== '');
  expect(lines.length).toBeGreaterThan(3);
  expect(lines.filter((line) => !line.startsWith('{') || !line.endsWith('}'))).toEqual([]);
});

it('an engine that is gone fails the health check, and the page still answers', async () => {
  await proxy.close();
  await until('the engine is missed', async () => (await health()).bad.some((one) => one.startsWith('engine: ')));
  expect((await health()).status).toBe(503);
  expect((await fetch(base)).status).toBe(200);
});
