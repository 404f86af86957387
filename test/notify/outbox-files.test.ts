import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog, withTail } from '../../src/base/log.ts';
import { forgetSecrets, registerSecret } from '../../src/base/redact.ts';
import { type Channel, createNotifier } from '../../src/notify/channel.ts';
import { noteFailure, type SendFailure } from '../../src/notify/failure.ts';
import { createHealthchecks } from '../../src/notify/healthchecks.ts';
import { createPost } from '../../src/notify/http.ts';
import type { Notifier } from '../../src/notify/notifier.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { RunReport } from '../../src/report/events.ts';
import { startReceiver } from '../harness/receiver.ts';
import { makeFailure, makeReport, NOW } from '../report/fixtures.ts';

/** Messages that wait in files: they outlive the process that could not send them. */

const DOWN: SendFailure = { isRefused: false };
const bad = makeReport({ status: 'failed', results: [makeFailure()] });
const good = makeReport({ previousStatus: 'failed' });
const alarm: Alarm = {
  ...{ project: 'shop', topic: 'wal', source: 'db.postgres', at: NOW.toISOString() },
  error: { code: 'WAL_GAP', message: 'WAL is missing' },
};

let directory: string;
let files: string;
let clock: number;
const stop = new AbortController();
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-outbox-'));
  files = path.join(directory, 'outbox/flaky');
  clock = Date.now();
});
afterEach(() => {
  forgetSecrets();
  rmSync(directory, { recursive: true, force: true });
});

/** A process with a channel that fails as often as asked. */
function start({ failures = 0, failure = DOWN, againMs = [1_000_000] as readonly number[] } = {}) {
  const sent: string[] = [];
  let left = failures;
  const channel: Channel = {
    name: 'flaky',
    async send({ title, facts }) {
      if (left-- > 0) throw noteFailure(new LifeboatError('NOTIFY_FAILED', 'down'), failure);
      sent.push(facts[0]?.startsWith('This message is from') ? `${title} (late)` : title);
      return 'sent';
    },
  };
  const { log, tail } = withTail(silentLog);
  const notifier = createNotifier(channel, {
    project: 'shop',
    log,
    now: () => clock,
    clock: () => clock,
    againMs,
    directory,
  });
  const run = async (report: RunReport) =>
    notifier.handle({ type: 'run-finished', report }, new AbortController().signal);
  return { notifier, run, sent, tail, repair: () => (left = 0) };
}

const stored = () => readdirSync(files).filter((name) => name.endsWith('.json'));
const until = async (condition: () => boolean) => {
  const end = Date.now() + 5000;
  while (!condition() && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
};
/** Lets the process that made the files be long gone. */
function age(seconds = 120): void {
  for (const name of stored()) utimesSync(path.join(files, name), new Date(), clock / 1000 - seconds);
}

test('the next daemon sends what an earlier process could not, once and in order', async () => {
  const { run } = start({ failures: Number.POSITIVE_INFINITY });
  await expect(run(bad)).rejects.toThrow('down');
  clock += 1000;
  await expect(run(good)).rejects.toThrow('down');
  age();
  clock += 10 * 60_000;
  const { notifier, sent } = start();
  notifier.resume?.(stop.signal);
  await until(() => sent.length >= 2 && stored().length === 0);
  expect(sent).toEqual(['shop: backup failed (late)', 'shop: backup ok again (late)']);
});

test('two daemons send each message once', async () => {
  const { run } = start({ failures: Number.POSITIVE_INFINITY });
  for (let i = 0; i < 6; i++) await expect(run(bad)).rejects.toThrow('down');
  age();
  const [one, other] = [start(), start()];
  one.notifier.resume?.(stop.signal);
  other.notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(one.sent.length + other.sent.length).toBe(6);
});

test('a message that was sent leaves no file, and one of a living process is left to it', async () => {
  const { run, sent } = start();
  await run(bad);
  expect([sent, stored()]).toEqual([['shop: backup failed'], []]);
  const living = start({ failures: 1 });
  await expect(living.run(bad)).rejects.toThrow('down');
  const daemon = start();
  daemon.notifier.resume?.(stop.signal);
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect(daemon.sent).toEqual([]);
  // Taken over by the daemon, it is not sent by the process that made it.
  age();
  start().notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  await living.run(good);
  expect(living.sent).toEqual(['shop: backup ok again']);
});

test('files are private, small, few, and without secrets', async () => {
  registerSecret('open-sesame');
  const log = Array.from({ length: 5000 }, (_, i) => `line ${i} `.padEnd(200, 'x'));
  const report = { ...bad, destination: '/backups/open-sesame', logTail: log };
  const { run, tail } = start({ failures: Number.POSITIVE_INFINITY });
  for (let i = 0; i < 30; i++, clock += 1000) await expect(run(report)).rejects.toThrow('down');
  expect(stored()).toHaveLength(20);
  expect(tail().filter((line) => line.includes('too many wait'))).toHaveLength(10);
  for (const name of stored()) {
    const file = path.join(files, name);
    expect(statSync(file).mode & 0o077).toBe(0);
    const text = readFileSync(file, 'utf8');
    expect(text.length).toBeLessThan(20_000);
    expect(text).not.toContain('open-sesame');
  }
});

test('a file that is no message is removed, and holds up no other', async () => {
  const { run } = start({ failures: 1 });
  await expect(run(bad)).rejects.toThrow('down');
  for (const [name, text] of [
    ['000000000000001-a.json', '{"format":1,"at":1,"message":{"title":7}}'],
    ['000000000000002-b.json', 'no JSON'],
    ['000000000000003-c.json', '{"format":2}'],
  ] as const)
    writeFileSync(path.join(files, name), text);
  age();
  const { notifier, sent } = start();
  notifier.resume?.(stop.signal);
  await until(() => stored().length === 0);
  expect(sent).toHaveLength(1);
});

test('an alarm that no channel took is sent however long that takes; a report is not', async () => {
  const { notifier, run, sent, tail, repair } = start({ failures: Number.POSITIVE_INFINITY, againMs: [30] });
  const { signal } = new AbortController();
  await expect(notifier.handle({ type: 'alarms', alarms: [alarm], open: [alarm] }, signal)).rejects.toThrow('down');
  await expect(run(bad)).rejects.toThrow('down');
  clock += 7 * 3_600_000;
  await until(() => tail().some((line) => line.includes('it is too old')));
  repair();
  await until(() => stored().length === 0);
  expect(sent).toEqual(['shop: db.postgres: WAL is missing (WAL_GAP) (late)']);
});

test('the pause that a service asks for counts for all messages', async () => {
  const { run, sent } = start({ failures: 1, failure: { isRefused: false, retryAfterMs: 600_000 }, againMs: [1] });
  await expect(run(bad)).rejects.toThrow('down');
  await expect(run(good)).rejects.toThrow('flaky takes no message for 10m');
  clock += 600_000;
  await run(good);
  expect(sent).toHaveLength(3);
});

test('a message that meets a limit of the service twice is not lost', async () => {
  const sent: string[] = [];
  let first = 2;
  const channel: Channel = {
    name: 'flaky',
    async send({ title }) {
      if (title.includes('failed') && first-- > 0)
        throw noteFailure(new LifeboatError('NOTIFY_FAILED', '500'), { isRefused: false });
      sent.push(title);
      return 'sent';
    },
  };
  const notifier = createNotifier(channel, { project: 'shop', log: silentLog, againMs: [1_000_000] });
  const run = async (report: RunReport) =>
    notifier.handle({ type: 'run-finished', report }, new AbortController().signal);
  await expect(run(bad)).rejects.toThrow('500');
  // The failure is tried first, then the newest one, then the failure again.
  const alarmed = async () =>
    notifier.handle({ type: 'alarms', alarms: [alarm], open: [] }, new AbortController().signal);
  await alarmed().catch(() => undefined);
  await alarmed();
  expect(sent.filter((title) => title.includes('backup failed'))).toHaveLength(1);
});

test('an event that a hanging channel has no time for is kept', async () => {
  const channel: Channel = { name: 'flaky', send: () => new Promise(() => undefined) };
  const notifier = createNotifier(channel, { project: 'shop', log: silentLog, now: () => clock, directory });
  const dispatcher = createDispatcher([notifier], { log: silentLog, limitMs: 50 });
  dispatcher.emit({ type: 'run-finished', report: bad });
  dispatcher.emit({ type: 'alarms', alarms: [alarm], open: [alarm] });
  await dispatcher.flush(10);
  await until(() => stored().length === 2);
});

test('a failure ping of an alarm is sent again', async () => {
  const receiver = await startReceiver();
  try {
    receiver.behave({ status: 500 });
    const create = (): Notifier =>
      createHealthchecks({
        ...{ target: { url: new URL(`${receiver.url}/check`) }, project: 'shop', log: silentLog, directory },
        post: createPost({ random: () => 0, attempts: 1 }),
      });
    const { signal } = new AbortController();
    await expect(create().handle({ type: 'alarms', alarms: [alarm], open: [] }, signal)).rejects.toThrow('500');
    files = path.join(directory, 'outbox/healthchecks');
    age();
    receiver.behave({});
    receiver.requests.length = 0;
    create().resume?.(stop.signal);
    await until(() => receiver.requests.length === 1);
    expect(receiver.requests[0]).toMatchObject({ path: '/check/fail', body: 'db.postgres: WAL is missing (WAL_GAP)' });
  } finally {
    await receiver.close();
  }
});
