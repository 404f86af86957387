import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Log } from '../../src/base/log.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { Listener, RunEvent } from '../../src/report/events.ts';
import { makeReport, makeResult } from './fixtures.ts';

const report = makeReport();
const started: RunEvent = { type: 'run-started', run: report };
const finished: RunEvent = { type: 'run-finished', report };
const sourceFinished: RunEvent = { type: 'source-finished', result: makeResult() };
const progress = (source: string, done: number): RunEvent => ({
  type: 'progress',
  progress: { source, phase: 'reading', done },
});

function recordingLog() {
  const warnings: { message: string; fields?: Record<string, unknown> | undefined }[] = [];
  const log: Log = { debug() {}, info() {}, error() {}, warn: (message, fields) => warnings.push({ message, fields }) };
  return { log, warnings };
}

function recorder(name = 'recorder', work: (event: RunEvent, signal: AbortSignal) => Promise<void> | void = () => {}) {
  const events: RunEvent[] = [];
  const listener: Listener = {
    name,
    handle(event, signal) {
      events.push(event);
      return work(event, signal);
    },
  };
  return { listener, events };
}

const untilAborted = (signal: AbortSignal) =>
  new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
const forever = () => new Promise<void>(() => {});

test('events arrive in order, one at a time, and emit returns before a listener runs', async () => {
  let active = 0;
  let most = 0;
  const { listener, events } = recorder('slow', async () => {
    active++;
    most = Math.max(most, active);
    await delay(2);
    active--;
  });
  const dispatcher = createDispatcher([listener], recordingLog());
  const all = [started, progress('a', 1), sourceFinished, finished];
  for (const event of all) dispatcher.emit(event);
  expect(events).toEqual([]);
  await dispatcher.flush();
  expect(events).toEqual(all);
  expect(most).toBe(1);
});

describe('a listener that fails', () => {
  const failures: [string, () => Promise<void> | void][] = [
    [
      'throws',
      () => {
        throw new LifeboatError('NOTIFY_FAILED', 'no');
      },
    ],
    ['rejects', () => Promise.reject(new Error('no'))],
    ['rejects with nothing', () => Promise.reject(undefined)],
  ];
  test.each(failures)('%s: the failure is logged, and all listeners still get every event', async (_name, fail) => {
    const bad = recorder('bad', fail);
    const good = recorder('good');
    const { log, warnings } = recordingLog();
    const dispatcher = createDispatcher([bad.listener, good.listener], { log });
    dispatcher.emit(started);
    dispatcher.emit(finished);
    await expect(dispatcher.flush()).resolves.toBeUndefined();
    expect(good.events).toHaveLength(2);
    expect(bad.events).toHaveLength(2);
    expect(warnings.map((w) => w.fields?.listener)).toEqual(['bad', 'bad']);
  });
});

describe('a listener that hangs', () => {
  test.each([
    ['honours its signal', untilAborted],
    ['ignores its signal', forever],
  ])('and %s: the run continues after the limit, and other listeners are not delayed', async (_name, hang) => {
    const bad = recorder('bad', (_event, signal) => hang(signal));
    const good = recorder('good');
    const { log, warnings } = recordingLog();
    const dispatcher = createDispatcher([bad.listener, good.listener], { log, limitMs: 60 });
    const start = performance.now();
    dispatcher.emit(finished);
    await delay(5);
    expect(good.events).toEqual([finished]);
    await dispatcher.flush();
    expect(performance.now() - start).toBeLessThan(15_000);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]?.fields).toMatchObject({ listener: 'bad', event: 'run-finished' });
  });

  test('at the start of a run still gets its end, and no events in between', async () => {
    const bad = recorder('bad', (event, signal) => (event.type === 'run-started' ? untilAborted(signal) : undefined));
    const dispatcher = createDispatcher([bad.listener], { ...recordingLog(), limitMs: 60 });
    for (const event of [started, progress('a', 1), sourceFinished, finished]) dispatcher.emit(event);
    await dispatcher.flush();
    expect(bad.events).toEqual([started, finished]);
  });

  test('flush aborts hanging listeners after its own limit, and reports the dropped events', async () => {
    let aborted = false;
    const bad = recorder('bad', async (_event, signal) => {
      await untilAborted(signal).finally(() => {
        aborted = true;
      });
    });
    const { log, warnings } = recordingLog();
    const dispatcher = createDispatcher([bad.listener], { log, limitMs: 60_000 });
    dispatcher.emit(started);
    dispatcher.emit(finished);
    await dispatcher.flush(20);
    expect(aborted).toBe(true);
    expect(bad.events).toEqual([started]);
    expect(warnings.map((w) => w.message).sort()).toEqual([
      'a listener took too long',
      'events were not delivered in time',
    ]);
  });

  test('flush says how many events were kept, and waits only a moment for that', async () => {
    const kept = { handle: () => new Promise<void>(() => undefined), keep: async () => true };
    const refused = { ...kept, keep: async () => false };
    const hanging = { ...kept, keep: () => new Promise<boolean>(() => undefined) };
    const { log, warnings } = recordingLog();
    const dispatcher = createDispatcher(
      [kept, refused, hanging].map((one, i) => ({ name: `l${i}`, ...one })),
      { log, limitMs: 60_000, keepMs: 100 },
    );
    dispatcher.emit(started);
    dispatcher.emit(finished);
    await dispatcher.flush(20);
    const late = warnings.filter(({ message }) => message === 'events were not delivered in time');
    expect(late.map(({ fields }) => fields)).toEqual([
      { listener: 'l0', later: 1 },
      { listener: 'l1', dropped: 1 },
      { listener: 'l2', dropped: 1 },
    ]);
  });

  test('the dispatcher works again after flush', async () => {
    let hang = true;
    const once = recorder('once', (_event, signal) => (hang ? untilAborted(signal) : undefined));
    const dispatcher = createDispatcher([once.listener], { ...recordingLog(), limitMs: 20 });
    dispatcher.emit(finished);
    await dispatcher.flush();
    hang = false;
    dispatcher.emit(started);
    await dispatcher.flush();
    expect(once.events).toEqual([finished, started]);
  });
});

test('only the newest waiting progress of each source is kept', async () => {
  const { promise: open, resolve: release } = Promise.withResolvers<void>();
  const slow = recorder('slow', (event) => (event.type === 'run-started' ? open : undefined));
  const dispatcher = createDispatcher([slow.listener], recordingLog());
  dispatcher.emit(started);
  await delay(1);
  for (let i = 1; i <= 10_000; i++) dispatcher.emit(progress(i % 2 ? 'a' : 'b', i));
  dispatcher.emit(finished);
  release();
  await dispatcher.flush();
  expect(slow.events).toEqual([started, progress('a', 9_999), progress('b', 10_000), finished]);
});

test('flush without events or listeners returns at once', async () => {
  await createDispatcher([], recordingLog()).flush();
  await createDispatcher([recorder().listener], recordingLog()).flush();
});
