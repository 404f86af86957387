import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { silentLog, withTail } from '../../src/base/log.ts';
import { forgetSecrets, redact, redactDeep, registerSecret } from '../../src/base/redact.ts';
import { createHealthchecks } from '../../src/notify/healthchecks.ts';
import { createPost } from '../../src/notify/http.ts';
import { type Notifier, testNotifiers } from '../../src/notify/notifier.ts';
import { createSlack } from '../../src/notify/slack.ts';
import { createWebhook, webhookMessage } from '../../src/notify/webhook.ts';
import { createDispatcher } from '../../src/report/dispatch.ts';
import type { RunReport } from '../../src/report/events.ts';
import { createProgress } from '../../src/report/terminal/progress.ts';
import { renderReport } from '../../src/report/text.ts';
import { type Behaviour, type Receiver, startReceiver } from '../harness/receiver.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';
import { notifierOf, runWords } from './notifier-of.ts';

const CANARY = 'c4n4ry/+ "p&ss<w>ör%d" \\end';
const bytes = Buffer.from(CANARY);
/** Every form that no output may contain, with the part of the report that holds it. */
const FORMS = {
  plain: CANARY,
  'url encoded': encodeURIComponent(CANARY),
  'url encoded, lower case': encodeURIComponent(CANARY).replace(/%../g, (code) => code.toLowerCase()),
  'form encoded': new URLSearchParams({ p: CANARY }).toString(),
  base64: bytes.toString('base64'),
  base64url: bytes.toString('base64url'),
  'basic authorization, 1': Buffer.from(`app:${CANARY}`).toString('base64'),
  'basic authorization, 2': Buffer.from(`app1:${CANARY}:more`).toString('base64'),
  'basic authorization, 3': Buffer.from(`app12:${CANARY}`).toString('base64url'),
  hex: bytes.toString('hex'),
};

let receiver: Receiver;
let token = '';
beforeAll(async () => {
  receiver = await startReceiver();
  registerSecret(CANARY);
  token = 'T0KENT0KENT0KENT0KEN';
});
afterAll(async () => {
  forgetSecrets();
  await receiver.close();
});

function notifiers(now = () => NOW.getTime()): Notifier[] {
  const post = createPost({ random: () => 0, attempts: 2, attemptMs: 15_000 });
  const url = (path: string) => new URL(`${receiver.url}/${path}/${token}`);
  return [
    createHealthchecks({ target: { url: url('hc') }, project: CANARY, post, now, log: silentLog }),
    notifierOf(createSlack({ url: url('slack'), post, now })),
    notifierOf(createWebhook({ url: url('webhook'), post, now })),
  ];
}

/** A report with the text in every place that untrusted input can reach. */
function tainted(text: string): RunReport {
  const error = { code: 'PG_AUTH', message: `failed: ${text}`, cause: `cause ${text}`, hint: `hint ${text}` } as const;
  const problems = [{ severity: 'error', code: 'LABEL_INVALID', subject: text, message: text, hint: text } as const];
  return makeReport({
    project: text,
    status: 'partial',
    sources: [text],
    destination: text,
    error,
    problems,
    results: [makeFailure({ name: text, error }), makeResult({ name: text, summary: text, warnings: [text] })],
    logTail: [`connecting with ${text}`],
  });
}

/** Returns the forms and pieces of the canary in the output that would help an attacker. */
function leaks(outgoing: string): string[] {
  const needles = [
    ...Object.values(FORMS),
    'c4n4ry',
    JSON.stringify(CANARY).slice(1, -1),
    bytes.toString('base64').slice(4, 20),
    Buffer.from(`1${CANARY}`).toString('base64').slice(4, 20),
    Buffer.from(`12${CANARY}`).toString('base64').slice(4, 20),
    CANARY.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'),
  ];
  return needles.filter((needle) => outgoing.includes(needle));
}

test('the search finds leaks', () => {
  for (const form of Object.values(FORMS)) expect(leaks(form)).not.toEqual([]);
});

test.each(Object.entries(FORMS))('no ping, message or progress line contains a secret, %s', async (_name, form) => {
  receiver.requests.length = 0;
  receiver.behave({});
  const shown: string[] = [];
  const display = createProgress({ write: (line) => shown.push(line) });
  const dispatcher = createDispatcher([...notifiers(), display], { log: silentLog });
  const report = tainted(form);
  dispatcher.emit({ type: 'run-started', run: report });
  dispatcher.emit({ type: 'source-started', source: form });
  for (const result of report.results) dispatcher.emit({ type: 'source-finished', result });
  dispatcher.emit({ type: 'run-finished', report });
  await dispatcher.flush();
  expect(receiver.requests.map((r) => r.path.split('/')[1]).sort()).toEqual(['hc', 'hc', 'slack', 'webhook']);
  expect(receiver.requests.map((r) => r.body).join('\n')).toContain('[redacted]');
  expect(leaks(JSON.stringify(receiver.requests) + receiver.requests.map((r) => r.body).join('\n'))).toEqual([]);
  expect(leaks(shown.join(''))).toEqual([]);
});

describe('broken notifiers', () => {
  test.each<[string, Behaviour, number]>([
    ['down', { reset: true }, 15_000],
    ['hanging', { hang: true }, 60],
    ['refusing', { status: 429, headers: { 'Retry-After': '3600' } }, 15_000],
    ['failing, and repeating the request', { status: 500, body: CANARY }, 15_000],
  ])(
    '%s: the run continues, and the log names the host and the reason, but neither URL nor secret',
    async (_name, behaviour, limitMs) => {
      receiver.behave(behaviour);
      const { log, tail } = withTail(silentLog);
      const dispatcher = createDispatcher(notifiers(), { log, limitMs });
      const report = tainted(CANARY);
      const before = structuredClone(report);
      const start = performance.now();
      dispatcher.emit({ type: 'run-started', run: report });
      dispatcher.emit({ type: 'run-finished', report });
      await dispatcher.flush();
      expect(performance.now() - start).toBeLessThan(14_000);
      expect(report).toEqual(before);
      const lines = tail().join('\n');
      for (const name of ['healthchecks', 'slack', 'webhook']) expect(lines).toContain(`"listener":"${name}"`);
      expect(lines).not.toContain(token);
      expect(leaks(lines)).toEqual([]);
    },
  );
});

test('50 sources that fail at once cause one message to Slack and the webhook each, and one ping', async () => {
  receiver.requests.length = 0;
  receiver.behave({});
  const results = Array.from({ length: 50 }, (_, i) => makeFailure({ name: `db${i}.postgres` }));
  const dispatcher = createDispatcher(notifiers(), { log: silentLog });
  for (const result of results) dispatcher.emit({ type: 'source-finished', result });
  dispatcher.emit({ type: 'run-finished', report: makeReport({ status: 'failed', results }) });
  await dispatcher.flush();
  expect(receiver.requests.map((r) => r.path.split('/')[1]).sort()).toEqual(['hc', 'slack', 'webhook']);
});

describe('notify test', () => {
  test('reports the result of each notifier', async () => {
    receiver.behave([{}, {}, {}, {}]);
    const results = await testNotifiers(notifiers());
    expect(results.map((r) => [r.name, r.ok])).toEqual([
      ['healthchecks', true],
      ['slack', true],
      ['webhook', true],
    ]);
    expect(leaks(JSON.stringify(results))).toEqual([]);
  });

  test('reaches the other notifiers if one is broken and one ignores its signal', async () => {
    const make = (name: string, work: () => Promise<string>): Notifier => ({ name, handle() {}, test: work });
    const results = await testNotifiers(
      [
        make('good', async () => 'fine'),
        make('broken', () => Promise.reject(new Error(`no ${CANARY}`))),
        make('deaf', () => new Promise(() => {})),
      ],
      { limitMs: 30 },
    );
    expect(results).toEqual([
      { name: 'good', ok: true, detail: 'fine' },
      { name: 'broken', ok: false, error: { code: 'INTERNAL', message: 'no [redacted]' } },
      { name: 'deaf', ok: false, error: { code: 'NOTIFY_FAILED', message: 'no answer within 0 s' } },
    ]);
  });
});

describe('redaction of structured values', () => {
  test("a password that is one of Lifeboat's own words does not break a report", () => {
    registerSecret('failed');
    registerSecret('volume');
    const report = makeReport({ status: 'failed', results: [makeFailure(), makeResult({ summary: 'volume failed' })] });
    const { report: clean } = webhookMessage(runWords(report));
    expect(clean?.results.map((r) => [r.status, r.kind])).toEqual([
      ['failed', 'postgres'],
      ['ok', 'volume'],
    ]);
    expect(renderReport(report, { now: NOW, zone: 'UTC' })).toContain('[redacted] [redacted] · 3.1 MiB new (17 files)');
  });

  test('a secret of digits does not break numbers', () => {
    registerSecret('777123');
    expect(redactDeep({ size: 777_123_456, text: 'pin 777123' })).toEqual({
      size: 777_123_456,
      text: 'pin [redacted]',
    });
  });

  test('text without secrets stays unchanged', () => {
    const text = 'The quick brown fox, 20261120T030000Z-4f1c9a, aGVsbG8gd29ybGQ=';
    expect(redact(text)).toBe(text);
  });
});
