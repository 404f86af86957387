import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import axe, { type AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { shutGate } from '../harness/gate.ts';
import { holder, ok, postgres, Stack, sh, until } from '../harness/stack.ts';

/** The page in a real browser, and the metrics in a real Prometheus, of an agent that backs up a real server. */

const ROOT = path.join(import.meta.dirname, '../..');
const MONITORING = path.join(ROOT, 'docker/monitoring');
const PASSWORD = 'canary-http-password';
const TOKEN = 'canary-http-token-0123';
const HOSTILE = '<img src=x onerror=alert(1)>';
const MIB = 1024 * 1024;

let stack: Stack;
let base: string;
let browser: Browser;
let directory: string;

const get = (at: string, headers: Record<string, string> = { authorization: `Bearer ${TOKEN}` }) =>
  fetch(`${base}${at}`, { headers });

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-watch-'));
  stack = await Stack.start({
    services: {
      db: postgres(17, {
        labels: { 'lifeboat.postgres': 'true', 'lifeboat.postgres.pitr': 'true' },
      }),
      web: holder(['media:/srv/media'], { 'lifeboat.volumes': 'media' }),
    },
    volumes: { media: {}, copy: {} },
    env: {
      ...{ LIFEBOAT_HTTP_PORT: '8080', LIFEBOAT_HTTP_PASSWORD: PASSWORD, LIFEBOAT_HTTP_TOKEN: TOKEN },
      // Any backup is too large, so that there is a problem to show.
      LIFEBOAT_COPY: '/copy?price-per-gb=0.02&warn-size=1KB',
    },
    agent: { volumes: ['copy:/copy'] },
  });
  const address = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  const ip = await ok('docker', ['inspect', await stack.id('lifeboat'), '--format', address]);
  base = `http://${ip.trim()}:8080`;
  await stack.psql(`CREATE TABLE orders AS SELECT generate_series(1, 1000) AS id; CREATE TABLE "${HOSTILE}" (x int)`);
  const files = `mkdir -p '/srv/media/${HOSTILE.replace('/', '')}' && echo hello > /srv/media/${"'a b.txt'"}`;
  await stack.exec('web', ['sh', '-c', files]);
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
});

afterAll(async () => {
  await browser?.close();
  await stack?.destroy();
  rmSync(directory, { recursive: true, force: true });
});

test('a new agent is healthy, small, and asks for credentials', async () => {
  const health = await until('it is healthy', async () => {
    const response = await get('/healthz', {});
    return response.status === 200 && response.json();
  });
  expect(health).toMatchObject({ status: 'ok' });
  expect((await get('/', {})).status).toBe(401);
  expect((await get('/', { authorization: `Basic ${btoa(`lifeboat:${PASSWORD}`)}` })).status).toBe(200);
  expect(await (await get('/')).text()).toContain('No backup yet');
  const pid = (await ok('docker', ['inspect', await stack.id('lifeboat'), '--format', '{{.State.Pid}}'])).trim();
  const rss = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  console.log(`the idle agent has ${(Number(rss) / 1024).toFixed(1)} MiB`);
  expect(Number(rss) * 1024).toBeLessThan(100 * MIB);
});

test('a run in progress is shown live, and without JavaScript', async () => {
  const context = await browser.newContext({ httpCredentials: { username: 'lifeboat', password: PASSWORD } });
  const page = await context.newPage();
  const open = await shutGate(
    stack,
    'DO $$ BEGIN LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; PERFORM pg_sleep(600); END $$',
  );
  const backup = stack.backup();
  try {
    await until('the run has begun', async () => (await (await get('/')).text()).includes('A backup is in progress'));
    expect(await (await get('/')).text()).toContain('<noscript><meta http-equiv="refresh"');
    await page.goto(base);
    // The script of the page changes the text when the dump begins to wait for the lock.
    await page.waitForFunction("document.querySelector('#run')?.textContent.includes('db.postgres')");
    await page.evaluate("document.title = 'not reloaded'");
  } finally {
    await open();
  }
  const { report } = await backup;
  expect(report.status).not.toBe('failed');
  // At the end of the run, the page loads itself again.
  await page.waitForFunction("document.title !== 'not reloaded' && !document.querySelector('#run')");
  expect(await page.textContent('h1')).toContain('sources');
  await context.close();
});

/** The problems that axe finds, as `rule: element`. */
async function problemsOf(page: Page): Promise<string[]> {
  // Chromium does not let a script of ours into the page, which is what the policy is for, so axe is evaluated.
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResults>('axe.run()');
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`));
}

describe('the page', () => {
  const pages = async () => {
    const snapshot = (await stack.json<{ snapshots: { id: string }[] }>('snapshots')).snapshots[0]?.id;
    return [
      ...['/', '/snapshots', '/retention', `/snapshots/${snapshot}`],
      `/snapshots/${snapshot}/files?source=web.media`,
      '/nothing',
    ];
  };

  test.each([
    { width: 1280, colorScheme: 'light' as const },
    { width: 390, colorScheme: 'dark' as const },
  ])('at $width, $colorScheme: no barrier, one request, no sideways scrolling', async ({ width, colorScheme }) => {
    const context = await browser.newContext({
      ...{ viewport: { width, height: 900 }, colorScheme },
      httpCredentials: { username: 'lifeboat', password: PASSWORD, send: 'always' },
    });
    const page = await context.newPage();
    const requests: string[] = [];
    const complaints: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    page.on('console', (message) => complaints.push(message.text()));
    page.on('dialog', (dialog) => complaints.push(dialog.message()));
    for (const at of await pages()) {
      requests.length = 0;
      await page.goto(base + at);
      expect({ at, requests: requests.filter((url) => !url.startsWith('data:')) }).toEqual({
        at,
        requests: [base + at],
      });
      expect({ at, found: await problemsOf(page) }).toEqual({ at, found: [] });
      const root = 'document.documentElement';
      const wide = await page.evaluate(`${root}.scrollWidth - ${root}.clientWidth`);
      expect({ at, wide }).toEqual({ at, wide: 0 });
    }
    expect(complaints.filter((text) => !text.includes('404'))).toEqual([]);
    await context.close();
  });

  test('says the same without JavaScript, and hostile names are text', async () => {
    const context = await browser.newContext({
      javaScriptEnabled: false,
      httpCredentials: { username: 'lifeboat', password: PASSWORD, send: 'always' },
    });
    const page = await context.newPage();
    const [, , , snapshot = '', files = ''] = await pages();
    await page.goto(base);
    expect(await page.textContent('main')).toContain('safe · any second of the last');
    expect(await page.textContent('main')).toContain('/copy');
    await page.goto(base + snapshot);
    expect(await page.textContent('main')).toContain(`public.${HOSTILE}`);
    expect(await page.textContent('main')).toContain('1,000');
    await page.goto(base + files);
    expect(await page.textContent('main')).toContain('a b.txt');
    await page.click(`text=${HOSTILE.slice(0, 12)}`);
    expect(await page.textContent('main')).toContain('0 names');
    expect(await page.locator('img').count()).toBe(0);
    await context.close();
  });
});

describe('the API', () => {
  test('has what --json prints', async () => {
    const [own, served] = [await stack.json<Shown>('status'), await (await get('/api/status')).json()];
    // The WAL goes on, and ages are those of the moment.
    const stable = ({ windows: _, ...rest }: Shown) => rest;
    expect(stable(served as Shown)).toEqual(stable(own));
    const { snapshots } = await stack.json<{ snapshots: object[] }>('snapshots');
    expect(((await (await get('/api/snapshots')).json()) as { snapshots: object[] }).snapshots).toEqual(snapshots);
  });
});

interface Shown {
  windows?: unknown;
  [key: string]: unknown;
}

describe('Prometheus', () => {
  let prometheus: ChildProcess;
  let api: string;

  const query = async (expression: string) => {
    const response = await fetch(`${api}/api/v1/query?query=${encodeURIComponent(expression)}`);
    const { status, data, error } = (await response.json()) as Answer;
    expect({ expression, status, error }).toEqual({ expression, status: 'success', error: undefined });
    return data.result;
  };

  beforeAll(async () => {
    const port = await freePort();
    writeFileSync(path.join(directory, 'token'), TOKEN);
    const text = readFileSync(path.join(MONITORING, 'prometheus.yml'), 'utf8')
      .replaceAll('30s', '1s')
      .replace('alerts.yml', path.join(MONITORING, 'alerts.yml'))
      .replace('lifeboat:8080', base.replace('http://', ''))
      .replace('# authorization:', 'authorization:')
      .replace(/# +credentials_file: .*/, `  credentials_file: ${directory}/token`);
    const config = path.join(directory, 'prometheus.yml');
    writeFileSync(config, text);
    const args = [`--config.file=${config}`, `--storage.tsdb.path=${directory}/data`];
    prometheus = spawn('prometheus', [...args, `--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' });
    api = `http://127.0.0.1:${port}`;
    await until('it has scraped the agent twice', async () => {
      const result = await query('count_over_time(lifeboat_build_info[5m]) >= 2').catch(() => []);
      return result.length > 0;
    });
  });
  afterAll(async () => {
    prometheus?.kill();
    if (prometheus?.exitCode === null) await once(prometheus, 'exit');
  });

  test('accepts the metrics, the rules and the configuration', async () => {
    const metrics = await (await get('/metrics')).text();
    expect(metrics).not.toContain('canary');
    expect(await sh('promtool', ['check', 'metrics'], { input: metrics })).toEqual({ code: 0, stdout: '', stderr: '' });
    await ok('promtool', ['check', 'rules', 'alerts.yml'], { cwd: MONITORING });
    await ok('promtool', ['check', 'config', 'prometheus.yml'], { cwd: MONITORING });
    await ok('promtool', ['test', 'rules', 'alerts.test.yml'], { cwd: MONITORING });
  });

  test('every query of the dashboard returns series', async () => {
    const dashboard = JSON.parse(readFileSync(path.join(MONITORING, 'grafana/dashboards/lifeboat.json'), 'utf8')) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const empty: string[] = [];
    for (const { title, targets } of dashboard.panels) {
      for (const { expr } of targets) {
        if ((await query(expr.replaceAll('$project', '.*'))).length === 0) empty.push(`${title}: ${expr}`);
      }
    }
    // The server sets no max_slot_wal_keep_size, so nothing limits what it keeps.
    expect(empty).toEqual([]);
  });

  test('the alerts are evaluated, and one is about to fire', async () => {
    const groups = await until('all rules were evaluated', async () => {
      const { data } = (await (await fetch(`${api}/api/v1/rules`)).json()) as { data: { groups: { rules: Rule[] }[] } };
      const { rules = [] } = data.groups[0] ?? {};
      return rules.length > 0 && rules.every(({ health }) => health !== 'unknown') && rules;
    });
    expect(groups.filter(({ health }) => health !== 'ok')).toEqual([]);
    const active = groups.filter(({ state }) => state !== 'inactive').map(({ name }) => name);
    expect(active).toEqual(['LifeboatStorageLarge']);
  });
});

interface Rule {
  name: string;
  health: string;
  state: string;
}

interface Answer {
  status: string;
  error?: string;
  data: { result: unknown[] };
}

/** Returns a port that nothing uses now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address !== null ? address.port : 0;
}
