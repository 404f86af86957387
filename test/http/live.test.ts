import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import type { HttpDeps } from '../../src/http/deps.ts';
import { startHttp } from '../../src/http/server.ts';
import { runningNow } from '../../src/overview/overview.ts';
import { NOW, serve } from './fixtures.ts';

/** The progress of a run as server-sent events, and what slow clients cannot do. */

let directory: string;
let isRunning: boolean;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-live-'));
  isRunning = true;
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const RUN = { id: '20261128T051000Z-aaaaaa', start: '2026-11-28T05:10:00Z' };
const over = (): Partial<HttpDeps> => ({
  state: { directory, accepted: async () => ({}) } as never,
  runsUnderWay: async () =>
    (isRunning ? [{ file: '', start: { type: 'start', verb: 'backup', run: RUN } }] : []) as never,
});

/** Reads a stream until it has a text. */
async function readUntil(response: Response, text: string): Promise<string> {
  let found = '';
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  while (!found.includes(text)) {
    const { value, done } = await reader.read();
    if (done) break;
    found += value;
  }
  await reader.cancel();
  return found;
}

describe('events', () => {
  test('have the progress of each source, and the end', async () => {
    const progress = { ...{ run: RUN.id, start: RUN.start }, sources: { 'db.postgres': { state: 'running' } } };
    writeFileSync(path.join(directory, 'progress.json'), JSON.stringify(progress));
    const response = await serve({ over: over() }).request('/api/events');
    setTimeout(() => (isRunning = false), 100);
    const text = await readUntil(response, 'event: end');
    expect(text).toContain('event: progress');
    expect(text).toContain('"lines":[{"source":"db.postgres","text":"started"');
  });

  test('a drill is not called a restore', async () => {
    const drill = { type: 'start', verb: 'drill', id: RUN.id };
    const drilling = { ...over(), runsUnderWay: async () => [{ file: '', start: drill }] as never };
    const page = await (await serve({ over: drilling }).request('/')).text();
    expect(page).toContain('A drill is in progress');
    expect(runningNow([{ file: '', start: drill as never }])).toBe(`drill ${RUN.id}`);
  });

  test('a reader that comes after the end hears of it at once', async () => {
    isRunning = false;
    const response = await serve({ over: over() }).request('/api/events');
    expect(await readUntil(response, 'event: end')).toContain('event: end');
  });

  test('at most 20 read at a time, and those that left or asked only for headers do not count', async () => {
    const app = serve({ over: over() });
    for (let i = 0; i < 30; i++) {
      const head = await app.request('/api/events', { method: 'HEAD' });
      expect(head.status).toBe(200);
    }
    const open = await Promise.all(Array.from({ length: 20 }, () => app.request('/api/events')));
    expect(open.map(({ status }) => status)).toEqual(Array(20).fill(200));
    expect((await app.request('/api/events')).status).toBe(503);
    await Promise.all(open.map((response) => response.body?.cancel()));
    await expect.poll(async () => (await app.request('/api/events')).status).toBe(200);
  });

  test('the page names its run, so that the script sees when another one follows', async () => {
    const page = await (await serve({ over: over() }).request('/')).text();
    expect(page).toContain(`data-run="${RUN.id}"`);
  });
});

describe('a slow client', () => {
  const deps = {
    ...{ project: 'shop', version: '1', log: silentLog, settings: { timeZone: 'UTC', copies: [] }, now: () => NOW },
    ...{ engine: { ping: async () => undefined }, sinceTick: () => 0, runsUnderWay: async () => [] },
    state: { directory: '/nowhere' },
  } as unknown as HttpDeps;

  test.each([
    ['that never ends its request', 'GET /healthz HTTP/1.1\r\nHost: x\r\n'],
    ['that sends nothing', ''],
  ])('%s loses its connection', async (_name, text) => {
    const server = await startHttp(deps, 0, { requestMs: 100, idleMs: 300 });
    try {
      const socket = connect(server!.port, '127.0.0.1', () => socket.write(text)).on('error', () => undefined);
      socket.resume();
      const closed = new Promise((resolve) => socket.on('close', () => resolve('closed')));
      const late = new Promise((resolve) => setTimeout(() => resolve('still open'), 3000));
      expect(await Promise.race([closed, late])).toBe('closed');
      socket.destroy();
    } finally {
      await server?.close();
    }
  });
});
