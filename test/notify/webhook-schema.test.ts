import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { sampleMessage } from '../../src/notify/message.ts';
import { webhookMessage } from '../../src/notify/webhook.ts';
import type { Alarm } from '../../src/report/alarm.ts';
import type { RestoreReport, RestoreStart } from '../../src/report/events.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';
import { wordsOf } from './notifier-of.ts';
import { jsonSchema, webhookSchema } from './webhook-schema.ts';

const file = new URL('../../docs/webhook.schema.json', import.meta.url);

test('docs/webhook.schema.json is the form of what is sent (UPDATE_DOCS=1 rewrites it)', () => {
  const expected = jsonSchema();
  if (process.env.UPDATE_DOCS) writeFileSync(file, `${JSON.stringify(expected, null, 2)}\n`);
  else expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(JSON.parse(JSON.stringify(expected)));
});

const alarm: Alarm = {
  ...{ project: 'shop', topic: 'rpo', source: 'db.postgres', at: NOW.toISOString(), safe: 's', next: 'n' },
  error: { code: 'RPO_MISSED', message: 'too old', hint: 'h', cause: 'c' },
};
const start: RestoreStart = {
  ...{ id: 'r1', project: 'shop', verb: 'restore', source: 'a', target: 'a', snapshot: 's', start: NOW.toISOString() },
};
const restore: RestoreReport = {
  ...{ ...start, end: NOW.toISOString(), status: 'ok', restored: [{ target: 'app', rows: 1 }], canRollBack: true },
  ...{
    steps: [{ name: 'swap', durationMs: 1 }],
    checks: [{ name: 'web', ok: true }],
    warnings: [],
    workMs: 5,
    whole: ['a'],
  },
};

test.each([
  ['a run', wordsOf({ type: 'run-finished', report: makeReport({ results: [makeResult(), makeFailure()] }) })],
  ['an alarm', wordsOf({ type: 'alarms', alarms: [alarm], open: [alarm] })],
  ['a restore that begins', wordsOf({ type: 'restore-started', restore: start })],
  ['a restore', wordsOf({ type: 'restore-finished', report: restore })],
  [
    'a letter',
    wordsOf({
      type: 'letter',
      letter: {
        ...{ project: 'shop', from: NOW.toISOString(), to: NOW.toISOString(), pruned: 0, snapshots: 1 },
        ...{ sources: [{ name: 'a', good: 1, bad: 0, newBytes: 0 }], copies: [], needs: [] },
      },
    }),
  ],
  ['a sample', sampleMessage('shop', NOW)],
])('the body of %s has that form', (_name, message) => {
  const body: unknown = JSON.parse(JSON.stringify(webhookMessage(message)));
  expect(webhookSchema.parse(body)).toEqual(body);
});

test('docs/notifications.md names every channel and its settings', async () => {
  const page = readFileSync(new URL('../../docs/notifications.md', import.meta.url), 'utf8');
  const { MESSAGE_SETTINGS } = await import('../../src/plan/messages/message-settings.ts');
  const { CHANNELS } = await import('../../src/plan/messages/notify-modes.ts');
  for (const name of Object.keys(MESSAGE_SETTINGS)) {
    if (!/_(BASE|SLUG)$|TELEGRAM_URL/.test(name)) expect(page).toContain(name);
  }
  for (const name of CHANNELS) expect(page).toMatch(new RegExp(`^\\| \\[\`${name}\`\\]`, 'm'));
  const named = page.match(/LIFEBOAT_[A-Z_]+/g)?.filter((name) => !(name in MESSAGE_SETTINGS));
  expect([...new Set(named)].sort()).toEqual(['LIFEBOAT_FALL', 'LIFEBOAT_SCHEDULE']);
  const { webhookMessage: make } = await import('../../src/notify/webhook.ts');
  for (const member of Object.keys(make(sampleMessage('shop', NOW)))) expect(page).toContain(`"${member}"`);
});
