import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog, withTail } from '../../src/base/log.ts';
import { type Channel, createNotifier } from '../../src/notify/channel.ts';
import { failureOf, noteFailure } from '../../src/notify/failure.ts';
import { createPost } from '../../src/notify/http.ts';
import { createOutbox } from '../../src/notify/outbox.ts';
import type { OutboxFiles } from '../../src/notify/outbox-files.ts';
import { processName } from '../../src/notify/process-name.ts';
import { openSentLog } from '../../src/notify/sent-log.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import type { RunEvent } from '../../src/report/events.ts';
import { startReceiver } from '../harness/receiver.ts';
import { makeFailure, makeReport, NOW } from '../report/fixtures.ts';
import { wordsOf } from './notifier-of.ts';

/** The rules of the outbox: one owner of a message, its order, and what becomes obsolete. */

const bad = makeReport({ status: 'failed', results: [makeFailure()] });
const good = makeReport({ previousStatus: 'failed' });
const begun: Alarm = {
  ...{ project: 'shop', topic: 'wal', source: 'db', at: NOW.toISOString() },
  error: { code: 'WAL_GAP', message: 'WAL is missing' },
};
const over: Alarm = { ...begun, over: true, since: NOW.toISOString() };
const alarms = (...all: Alarm[]): RunEvent => ({ type: 'alarms', alarms: all, open: [] });
const finished = (report = bad): RunEvent => ({ type: 'run-finished', report });
const { signal } = new AbortController();
const HOUR = 3_600_000;

let directory: string;
let files: string;
let clock: number;
let stop: AbortController;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-rules-'));
  files = path.join(directory, 'outbox/flaky');
  clock = Date.now();
  stop = new AbortController();
});
afterEach(() => {
  stop.abort();
  rmSync(directory, { recursive: true, force: true });
});

/** A process. `fail`: the error of each try, if any. */
function start(fail: () => Error | undefined = () => undefined, steady = () => clock) {
  const sent: string[] = [];
  const channel: Channel = {
    name: 'flaky',
    async send({ title }) {
      const error = fail();
      if (error) throw error;
      sent.push(title);
      return 'sent';
    },
  };
  const { log, tail } = withTail(silentLog);
  const again = { againMs: [1_000_000], directory };
  const notifier = createNotifier(channel, { project: 'shop', log, now: () => clock, clock: steady, ...again });
  return { notifier, sent, tail, handle: async (event: RunEvent) => notifier.handle(event, signal) };
}
const down = () => noteFailure(new LifeboatError('NOTIFY_FAILED', 'down'), { isRefused: false });
const stored = () => readdirSync(files).filter((name) => name.endsWith('.json'));
const until = async (condition: () => boolean) => {
  const end = Date.now() + 5000;
  while (!condition() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
};
/** Lets the process that made the files have ended, in the same container. */
function kill(): void {
  const [host] = processName().split('.');
  for (const name of stored())
    renameSync(path.join(files, name), path.join(files, name.replace(processName(), `${host}.4194305.1`)));
}

test('the end of an alarm is never too old, nor dropped for other messages', async () => {
  let broken = false;
  const { sent, handle, tail } = start(() => (broken ? down() : undefined));
  await handle(alarms(begun));
  broken = true;
  await expect(handle(alarms(over))).rejects.toThrow('down');
  clock += 7 * HOUR;
  for (let i = 0; i < 25; i++) await expect(handle(finished())).rejects.toThrow('down');
  broken = false;
  await handle(finished());
  expect(sent.filter((title) => title.includes('over'))).toHaveLength(1);
  expect(tail().join()).not.toContain('"shop: db: over');
});

test('an alarm that ended before anybody tried to send it is dropped with its end', async () => {
  const { notifier, sent, tail } = start();
  await notifier.keep(alarms(begun));
  expect(stored()).toHaveLength(1);
  await notifier.keep(alarms(over));
  expect([sent, stored()]).toEqual([[], []]);
  expect(tail().filter((line) => line.includes('its alarm is over'))).toHaveLength(2);
});

test('a beginning that may have arrived is ended', async () => {
  let broken = true;
  const { sent, handle } = start(() => (broken ? down() : undefined));
  await expect(handle(alarms(begun))).rejects.toThrow('down');
  broken = false;
  await handle(alarms(over));
  expect(sent).toEqual([expect.stringContaining('over')]);
});

test('alarms of which one is still open keep their messages', async () => {
  const { notifier } = start();
  await notifier.keep(alarms(begun, { ...begun, source: 'other' }));
  await notifier.keep(alarms(over));
  expect(stored()).toHaveLength(2);
  await notifier.keep(alarms({ ...over, source: 'other' }));
  expect(stored()).toHaveLength(0);
});

/** Files of an outbox that exist only in this test. */
function fakeFiles(own: Partial<OutboxFiles>) {
  const sent: string[] = [];
  const names = new Set<string>();
  const all: OutboxFiles = {
    save: async ({ id }) => {
      names.add(id);
      return id;
    },
    claim: async (file) => ({ file }),
    remove: async (file) => void names.delete(file),
    adopt: async () => [],
    ...own,
  };
  const sender = { name: 'flaky', send: async ({ title }: { title: string }) => void sent.push(title) };
  const { log, tail } = withTail(silentLog);
  const now = () => clock;
  const memory = openSentLog({ directory: undefined, channel: 'flaky', now });
  const outbox = createOutbox(sender, { log, now, clock: now, files: all, sent: memory });
  return { outbox, sent, names, tail, put: (event: RunEvent) => outbox.put(wordsOf(event), signal) };
}

test('a message is stored before others can send it', async () => {
  const slow = Promise.withResolvers<void>();
  let saves = 0;
  const names = new Set<string>();
  const { sent, put } = fakeFiles({
    save: async ({ id }) => {
      if (saves++ === 0) await slow.promise;
      names.add(id);
      return id;
    },
    remove: async (file) => void names.delete(file),
  });
  const both = [put(finished()), put(finished(good))];
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(sent).toEqual([]);
  slow.resolve();
  await Promise.all(both);
  expect(sent).toEqual(['shop: backup failed', 'shop: backup ok again']);
  expect(names.size).toBe(0);
});

test.each([
  ['cannot be claimed', async () => Promise.reject(new Error('EIO')), 1, 'although it cannot be claimed'],
  ['is gone', async () => 'gone' as const, 1, 'is gone, so it is sent from memory'],
  ['is taken', async () => 'taken' as const, 0, 'another process sends a message'],
])('a message whose file %s', async (_name, claim, times, line) => {
  const { sent, tail, put } = fakeFiles({ claim });
  await put(finished());
  expect(sent).toHaveLength(times);
  expect(tail().join()).toContain(line);
});

test('a message that is too large to be stored is sent, and the log says so', async () => {
  const { handle, sent, tail } = start();
  await handle(finished({ ...bad, destination: 'x'.repeat(600_000) }));
  expect(sent).toHaveLength(1);
  expect(tail().join()).toMatch(/waits only in memory.*512 KiB/);
});

test('a message of an earlier process is not sent when it is too old', async () => {
  await expect(start(down).handle(finished())).rejects.toThrow('down');
  kill();
  clock += 7 * HOUR;
  const { notifier, sent, tail } = start();
  notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(sent).toEqual([]);
  expect(tail().join()).toContain('a message was never sent: it is too old');
});

test('an older message is dropped when another process has sent the opposite since', async () => {
  await expect(start(down).handle(finished())).rejects.toThrow('down');
  kill();
  clock += 1000;
  await start().handle(finished(good));
  const { notifier, sent, tail } = start();
  // No minute passes: the process that made the message has ended.
  notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(sent).toEqual([]);
  expect(tail().join()).toContain('a message was never sent: a newer one says the opposite');
});

test('a clock that was set back makes no message obsolete', async () => {
  await start().handle(finished(good));
  clock -= HOUR;
  const { handle, sent } = start();
  await handle(finished());
  expect(sent).toEqual(['shop: backup failed']);
});

test('a clock that jumps forward makes no message of this process too old', async () => {
  let broken = true;
  let steady = 0;
  const { handle, sent } = start(
    () => (broken ? down() : undefined),
    () => steady,
  );
  await expect(handle(finished())).rejects.toThrow('down');
  clock += 24 * HOUR;
  steady += 1000;
  await expect(handle(finished())).rejects.toThrow('down');
  broken = false;
  await handle(finished());
  expect(sent).toHaveLength(3);
});

test('all alarms of an earlier process are sent, however many', async () => {
  const many = start(down);
  for (let i = 0; i < 30; i++) await expect(many.handle(alarms({ ...begun, source: `db${i}` }))).rejects.toThrow();
  expect(stored()).toHaveLength(30);
  kill();
  const { notifier, sent } = start();
  notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(sent).toHaveLength(30);
});

test('commands without a daemon leave few files', async () => {
  mkdirSync(files, { recursive: true });
  const old = path.join(files, 'x.json.7.tmp');
  writeFileSync(old, '{');
  utimesSync(old, new Date(), new Date(clock - 2 * HOUR));
  let lines = 0;
  for (let i = 0; i < 25; i++, clock += 1000) {
    const { handle, tail } = start(down);
    await expect(handle(finished())).rejects.toThrow('down');
    lines += tail().filter((line) => line.includes('too many wait')).length;
  }
  expect(readdirSync(files)).toHaveLength(20);
  expect(lines).toBe(5);
});

test('a stored time that is no time ends no process', async () => {
  await expect(start(down).handle(finished())).rejects.toThrow('down');
  const text = JSON.stringify({ format: 1, at: 1e300, message: wordsOf(finished()) });
  writeFileSync(path.join(files, stored()[0] as string), text);
  kill();
  const { notifier, sent, tail } = start();
  notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(sent).toEqual([]);
  expect(tail().join()).toContain('its file is damaged or of an unknown format');
});

test('an error that nobody has noted is no refusal', async () => {
  let tries = 0;
  // Twice alone, and again after the other message was sent.
  const fails = () => [1, 2, 4].includes(++tries);
  const { handle, sent } = start(() => (fails() ? new LifeboatError('NOTIFY_FAILED', 'rate limited') : undefined));
  await expect(handle(finished())).rejects.toThrow('rate limited');
  await expect(handle(finished())).rejects.toThrow('rate limited');
  await handle(finished());
  expect(sent).toHaveLength(3);
});

test('a service that asks for no pause gets none', async () => {
  const receiver = await startReceiver();
  try {
    receiver.behave({ status: 429, headers: { 'retry-after': '0' } });
    const post = createPost({ random: () => 0, attempts: 1 });
    const request = { url: new URL(receiver.url), body: '', contentType: 'text/plain', signal };
    const error = await post(request).catch((cause: unknown) => cause);
    expect(failureOf(error)).toEqual({ isRefused: false, retryAfterMs: undefined });
  } finally {
    await receiver.close();
  }
});

test('a message that is in flight is neither sent by another process nor dropped', async () => {
  const arrives = Promise.withResolvers<void>();
  let calls = 0;
  const channel: Channel = {
    name: 'flaky',
    async send() {
      calls++;
      await arrives.promise;
      return 'sent';
    },
  };
  const { log, tail } = withTail(silentLog);
  const notifier = createNotifier(channel, { project: 'shop', log, now: () => clock, directory });
  const sending = notifier.handle(finished(), signal);
  await until(() => calls === 1);
  const other = start();
  other.notifier.resume?.(stop.signal);
  for (let i = 0; i < 25; i++) await notifier.keep(finished());
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(other.sent).toEqual([]);
  expect(tail().filter((line) => line.includes('too many wait'))).toHaveLength(6);
  arrives.resolve();
  await sending;
  expect(calls).toBe(20);
});
