import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import axe, { type AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ok, sh, until } from '../../harness/stack.ts';
import { makeFacts, NOW, serve } from '../fixtures.ts';

/** The pages in a real browser, and the metrics in a real Prometheus, over the facts of a shop. */

const MONITORING = path.join(import.meta.dirname, '../../../docker/monitoring');
const PASSWORD = 'canary-http-password';
const TOKEN = 'canary-http-token-0123';
const HOSTILE = '<img src=x onerror=alert(1)>';

let base: string;
let browser: Browser;
const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-watch-'));
let running = true;

const get = (at: string) => fetch(`${base}${at}`, { headers: { authorization: `Bearer ${TOKEN}` } });

/** The shop, with problems of all kinds, a hostile name, and a run in progress. */
function facts() {
  const shown = makeFacts();
  const { overview } = shown;
  const error = { code: 'PG_AUTH', message: 'the server refused `app`', hint: 'Set `LIFEBOAT_PGUSER`.' } as const;
  const [config, ...others] = overview.sources;
  const failed = { run: 'x', at: NOW.toISOString(), status: 'failed', error } as const;
  overview.sources = [{ ...config!, name: HOSTILE, attention: 'failed', last: failed }, ...others];
  overview.copies.push({ name: '/nas', behindSince: '2026-11-25T02:00:00.000Z', error });
  const subject = 'db.postgres';
  overview.problems.push({ severity: 'warning', code: 'DEST_LARGE', subject, message: HOSTILE });
  overview.targets = [
    {
      name: 'db.postgres',
      targets: [
        { kind: 'rpo', targetMs: 10_000, measuredMs: 4000, met: true },
        { kind: 'rto', targetMs: 3_600_000, measuredMs: 38_000, met: true },
      ],
    },
  ];
  return shown;
}

const server = createAdaptorServer({
  fetch: serve({
    facts: facts(),
    http: { port: 0, user: 'lifeboat', password: PASSWORD, token: TOKEN },
    over: {
      state: { directory, accepted: async () => ({}) } as never,
      runsUnderWay: async () => {
        const run = { id: '20261128T051000Z-aaaaaa', start: '2026-11-28T05:10:00Z' };
        return running ? ([{ file: '', start: { type: 'start', verb: 'backup', run } }] as never) : [];
      },
    },
  }).fetch,
});

beforeAll(async () => {
  mkdirSync(path.join(directory, 'wal'));
  const receiver = makeFacts().overview.windows[0]?.receiver;
  writeFileSync(path.join(directory, 'wal/db.postgres.json'), JSON.stringify(receiver));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  base = `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`;
  browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
});

afterAll(async () => {
  await browser?.close();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

const httpCredentials = { username: 'lifeboat', password: PASSWORD, send: 'always' } as const;

/** The problems that axe finds, as `rule: element`. */
async function problemsOf(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResults>('axe.run()');
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`));
}

describe('the pages', () => {
  const pages = ['/', '/snapshots', '/retention', '/drills', '/drills/20261126T060000Z-d111aa', '/nothing'];

  test.each([
    { width: 1280, colorScheme: 'light' as const },
    { width: 390, colorScheme: 'dark' as const },
  ])('at $width, $colorScheme: no barrier, one request, no sideways scrolling', async ({ width, colorScheme }) => {
    running = false;
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme, httpCredentials });
    const page = await context.newPage();
    const requests: string[] = [];
    const complaints: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    page.on('console', (message) => complaints.push(message.text()));
    page.on('dialog', (dialog) => complaints.push(dialog.message()));
    for (const at of pages) {
      requests.length = 0;
      await page.goto(base + at);
      expect({ at, requests: requests.filter((url) => !url.startsWith('data:')) }).toEqual({
        at,
        requests: [base + at],
      });
      for (const details of await page.locator('summary').all()) await details.click();
      expect({ at, found: await problemsOf(page) }).toEqual({ at, found: [] });
      const root = 'document.documentElement';
      const wide = await page.evaluate(`${root}.scrollWidth - ${root}.clientWidth`);
      expect({ at, wide }).toEqual({ at, wide: 0 });
    }
    expect(complaints.filter((text) => !text.includes('404'))).toEqual([]);
    await context.close();
  });

  test('say the same without JavaScript, and hostile names are text', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false, httpCredentials });
    const page = await context.newPage();
    await page.goto(base);
    expect(await page.textContent('h1')).toContain(HOSTILE);
    expect(await page.textContent('main')).toContain('safe · any second of the last 7 days');
    expect(await page.locator('img').count()).toBe(0);
    await context.close();
  });

  test('a run in progress is shown live, and the page loads itself again at its end', async () => {
    running = true;
    const context = await browser.newContext({ httpCredentials });
    const page = await context.newPage();
    const events = page.waitForResponse((response) => response.url().endsWith('/api/events'));
    await page.goto(base);
    // The first event follows at once: from then on, the reader knows the run.
    await events;
    expect(await page.textContent('#run')).toContain('A backup is in progress');
    const again = page.waitForEvent('load');
    running = false;
    await again;
    expect(await page.locator('#run').count()).toBe(0);
    await context.close();
  });
});

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
    // The time of the shop is not that of Prometheus, so other alerts are active too.
    expect(active).toContain('LifeboatStorageLarge');
    expect(active).toContain('LifeboatSourceNeedsAttention');
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
