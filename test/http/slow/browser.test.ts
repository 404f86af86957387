import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectAccessible, launchBrowser, VIEWS } from '../../harness/browser.ts';
import { type Prometheus, startPrometheus } from '../../harness/prometheus.ts';
import { ok, sh, until } from '../../harness/stack.ts';
import { HOSTILE_FILE, makeFacts, NOW, readableSnapshots, serve } from '../fixtures.ts';

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
      ...readableSnapshots(directory),
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
  browser = await launchBrowser();
});

afterAll(async () => {
  await browser?.close();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

const httpCredentials = { username: 'lifeboat', password: PASSWORD, send: 'always' } as const;

describe('the pages', () => {
  const [snapshot] = makeFacts().overview.found.manifests;
  const files = `/snapshots/${snapshot?.id}/files?source=web.media`;
  const pages = [
    ...['/', '/snapshots', '/retention', '/drills', '/drills/20261126T060000Z-d111aa', '/nothing'],
    ...[`/snapshots/${snapshot?.id}`, files, `${files}&directory=${Buffer.from('photos').toString('base64url')}`],
  ];

  test.each(VIEWS)(
    'at $width, $colorScheme: no barrier, one request, no sideways scrolling',
    async ({ width, colorScheme }) => {
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
        await expectAccessible(page, base + at);
        expect(requests.filter((url) => !url.startsWith('data:'))).toEqual([base + at]);
      }
      expect(complaints.filter((text) => !text.includes('404'))).toEqual([]);
      await context.close();
    },
  );

  test('a snapshot shows its tables, and its files to browse', async () => {
    running = false;
    const context = await browser.newContext({ javaScriptEnabled: false, httpCredentials });
    const page = await context.newPage();
    await page.goto(`${base}/snapshots/${snapshot?.id}`);
    expect(await page.textContent('main')).toContain('public.orders');
    await page.getByText('Browse the files of web.media').click();
    await page.getByText('photos/').click();
    expect(await page.textContent('h1')).toContain('web.media / photos');
    expect(await page.textContent('main')).toContain(HOSTILE_FILE);
    expect(await page.locator('img').count()).toBe(0);
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
  let prometheus: Prometheus;

  beforeAll(async () => {
    writeFileSync(path.join(directory, 'token'), TOKEN);
    const text = readFileSync(path.join(MONITORING, 'prometheus.yml'), 'utf8')
      .replaceAll('30s', '5s')
      .replace('alerts.yml', path.join(MONITORING, 'alerts.yml'))
      .replace('lifeboat:8080', base.replace('http://', ''))
      .replace('# authorization:', 'authorization:')
      .replace(/# +credentials_file: .*/, `  credentials_file: ${directory}/token`);
    prometheus = await startPrometheus(directory, text);
    await until('it has scraped the agent twice', async () => {
      const result = await prometheus.query('count_over_time(lifeboat_build_info[5m]) >= 2').catch(() => []);
      return result.length > 0;
    });
  });
  afterAll(() => prometheus?.stop());

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
        if ((await prometheus.query(expr.replaceAll('$project', '.*'))).length === 0) empty.push(`${title}: ${expr}`);
      }
    }
    expect(empty).toEqual([]);
  });

  test('the alerts are evaluated, and one is about to fire', async () => {
    const groups = await until('all rules were evaluated', async () => {
      const { data } = (await (await fetch(`${prometheus.url}/api/v1/rules`)).json()) as {
        data: { groups: { rules: Rule[] }[] };
      };
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
