import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { createMemoryRelease } from '../../src/http/release-memory.ts';

/** Garbage of requests is collected once they have ceased, and not during a run. */

function setup() {
  const state = { busy: false, collected: 0 };
  const release = createMemoryRelease(async () => state.busy, { quietMs: 20, collect: () => (state.collected += 1) });
  const app = new Hono().use(release).get('/', (context) => context.text('page'));
  return { state, app, wait: () => new Promise((resolve) => setTimeout(resolve, 100)) };
}

test('many requests are followed by one collection', async () => {
  const { state, app, wait } = setup();
  for (let i = 0; i < 10; i++) await app.request('/');
  expect(state.collected).toBe(0);
  await wait();
  expect(state.collected).toBe(1);
  await app.request('/');
  await wait();
  expect(state.collected).toBe(2);
});

test('a run is not disturbed', async () => {
  const { state, app, wait } = setup();
  state.busy = true;
  await app.request('/');
  await wait();
  expect(state.collected).toBe(0);
});

test('the real collection works in a process without options', async () => {
  const app = new Hono()
    .use(createMemoryRelease(async () => false, { quietMs: 1 }))
    .get('/', (context) => context.text('page'));
  let garbage: unknown[] = Array.from({ length: 300_000 }, (_, i) => ({ i, text: `text ${i}` }));
  const full = process.memoryUsage().heapUsed;
  expect(garbage.pop()).toBeDefined();
  garbage = [];
  await app.request('/');
  await expect.poll(() => process.memoryUsage().heapUsed, { timeout: 2000 }).toBeLessThan(full - 10_000_000);
});
