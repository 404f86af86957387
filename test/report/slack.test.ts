import { describe, expect, test } from 'vitest';
import type { PostRequest } from '../../src/report/http.ts';
import { createSlack, mrkdwn, type SlackMessage, slackMessage } from '../../src/report/slack.ts';
import { makeFailure, makeReport, makeResult, NOW } from './fixtures.ts';

const when = { now: NOW, zone: 'Europe/Berlin' };
const texts = (message: SlackMessage): string[] =>
  message.blocks.flatMap((block) => (block.type === 'section' ? [block.text.text] : block.elements.map((e) => e.text)));

test('a run in which one source failed', () => {
  const report = makeReport({ status: 'partial', results: [makeResult(), makeFailure()] });
  const message = slackMessage(report, when);
  expect(message.text).toBe(
    'shop: backup partly failed (1 of 2 sources) · db.postgres — dump ended early: container restarted (PG_RESTARTED)',
  );
  expect(texts(message)).toEqual([
    '*shop: backup partly failed (1 of 2 sources)* · 41s · 18.2 GiB seen, 3.1 MiB new',
    [
      '*db.postgres* failed — dump ended early: container restarted (PG_RESTARTED)',
      'cause: connection closed',
      'hint: Run it again when the database is up.',
      'safe: the last good snapshot is 24h old (20261119T030000Z-aa01be)',
    ].join('\n'),
    'web.media ok (18.2 GiB, 3.1 MiB new)',
    'snapshot 20261120T030000Z-4f1c9a · /backups · next run tomorrow 03:00 CET (in 22h 59m) · try again: `docker compose exec lifeboat lifeboat backup db.postgres`',
  ]);
});

test('a good run is short', () => {
  const message = slackMessage(makeReport(), when);
  expect(message.text).toBe('shop: backup ok');
  expect(message.blocks).toHaveLength(3);
});

test('some warnings of a good run are shown', () => {
  const warnings = Array.from({ length: 6 }, (_, i) => `<rows> fell by ${90 + i} %`);
  const message = slackMessage(makeReport({ results: [makeResult({ warnings })] }), when);
  const shown = texts(message)[2]?.split('\n') ?? [];
  expect(shown).toHaveLength(6);
  expect(shown[0]).toBe('warning: web.media — &lt;rows&gt; fell by 90 %');
  expect(shown[5]).toBe('and 1 more warning');
  const long = makeReport({
    results: [makeResult({ name: 'n'.repeat(500), warnings: Array(9).fill('w'.repeat(999)) })],
  });
  for (const text of texts(slackMessage(long, when))) expect(text.length).toBeLessThanOrEqual(3000);
});

test('a run that failed as a whole shows the reason, and no command with a name that needs quoting', () => {
  const report = makeReport({
    status: 'failed',
    error: { code: 'DEST_FULL', message: 'no space', hint: 'Make room.' },
    results: [makeFailure({ name: 'x; rm -rf' })],
    problems: Array.from(
      { length: 8 },
      () => ({ severity: 'error', code: 'LABEL_UNKNOWN', subject: 'w', message: 'odd' }) as const,
    ),
  });
  delete report.snapshot;
  const message = slackMessage(report, when);
  expect(message.text).toBe('shop: backup failed · no space (DEST_FULL)');
  const all = texts(message).join('\n');
  expect(all).toContain('no space (DEST_FULL)\nhint: Make room.');
  expect(all).toContain('nothing stored');
  expect(all).toContain('and 3 more problems');
  expect(all).not.toContain('try again');
});

describe('escaping', () => {
  test.each([
    ['<!channel> & <@U1> `x`', "&lt;!channel&gt; &amp; &lt;@U1&gt; 'x'"],
    ['a\nb', 'a b'],
  ])('%j', (text, safe) => {
    expect(mrkdwn(text, 100)).toBe(safe);
  });

  test('cuts between entities and characters', () => {
    expect(mrkdwn('&&&', 11)).toBe('&amp;&amp;…');
    expect(mrkdwn('😀😀', 4)).toBe('😀…');
  });

  test('untrusted names, errors and hints cannot mention users or add links', () => {
    const evil = '<!channel> <https://evil.example|click> `';
    const error = { code: 'PG_QUERY', message: evil, cause: evil, hint: evil } as const;
    const report = makeReport({
      project: evil,
      status: 'failed',
      destination: evil,
      error,
      results: [
        makeResult({ name: evil }),
        makeFailure({ name: evil, error }),
        makeResult({ status: 'partial', warnings: [evil] }),
      ],
      problems: [{ severity: 'warning', code: 'LABEL_INVALID', subject: evil, message: evil }],
    });
    const message = slackMessage(report, when);
    const own = /`docker compose exec lifeboat lifeboat backup web\.media`/;
    expect([message.text, ...texts(message)].join('').replace(own, '')).not.toMatch(/[<>`]/);
    for (const block of message.blocks) {
      for (const text of block.type === 'section' ? [block.text] : block.elements) expect(text.verbatim).toBe(true);
    }
  });
});

describe("Slack's limits", () => {
  const long = '&'.repeat(5_000);
  const error = { code: 'PG_QUERY', message: long, cause: long, hint: long } as const;
  test.each([
    [
      '200 sources, half of them failed',
      (i: number) => (i % 2 ? makeFailure({ name: `f${i}` }) : makeResult({ name: `g${i}` })),
    ],
    ['200 failures with huge errors and names', (i: number) => makeFailure({ name: `f${i}${long}`, error })],
    ['200 sources with long names', (i: number) => makeResult({ name: `g${i}${'x'.repeat(150)}` })],
  ])('%s are one message', async (_name, make) => {
    const results = Array.from({ length: 200 }, (_, i) => make(i));
    const problems = results.map(
      () => ({ severity: 'error', code: 'LABEL_INVALID', subject: long, message: long }) as const,
    );
    const report = makeReport({ status: 'partial', results, problems, error, destination: long, project: long });
    const posts: PostRequest[] = [];
    const post = async (request: PostRequest) => {
      posts.push(request);
      return { status: 200, headers: {}, body: 'ok' };
    };
    const slack = createSlack({ url: new URL('https://hooks.slack.example/x'), project: 'shop', post });
    await slack.handle({ type: 'run-finished', report }, new AbortController().signal);
    expect(posts).toHaveLength(1);
    const message = JSON.parse(posts[0]?.body ?? '') as SlackMessage;
    expect(message.blocks.length).toBeLessThanOrEqual(50);
    for (const text of texts(message)) {
      expect(text.length).toBeLessThanOrEqual(3_000);
      expect(text.length).toBeGreaterThan(0);
    }
    expect(message.text.length).toBeLessThanOrEqual(3_000);
  });

  test('failures come first, and every source is counted', () => {
    const bad = Array.from({ length: 50 }, (_, i) => makeFailure({ name: `f${i}.postgres` }));
    const good = Array.from({ length: 150 }, (_, i) => makeResult({ name: `g${i}` }));
    const [, ...rest] = texts(slackMessage(makeReport({ status: 'partial', results: [...good, ...bad] }), when));
    expect(rest[0]).toMatch(/^\*f0\.postgres\* failed/);
    const all = rest.join('\n');
    const shown = all.match(/^\*f\d+/gm)?.length ?? 0;
    expect(all).toContain(`and ${50 - shown} more sources not ok: f${shown}.postgres`);
    expect(shown).toBe(10);
    const goodShown = all.match(/g\d+ ok/g)?.length ?? 0;
    expect(goodShown).toBe(25);
    expect(all).toContain('and 125 more');
  });
});

test('only the end of a run is sent; a test is marked as such', async () => {
  const posts: PostRequest[] = [];
  const post = async (request: PostRequest) => {
    posts.push(request);
    return { status: 200, headers: {}, body: 'ok' };
  };
  const signal = new AbortController().signal;
  const slack = createSlack({ url: new URL('https://hooks.slack.example/x'), project: 'shop', post });
  await slack.handle({ type: 'run-started', run: makeReport() }, signal);
  await slack.handle({ type: 'source-finished', result: makeFailure() }, signal);
  expect(posts).toEqual([]);
  expect(await slack.test(signal)).toBe('hooks.slack.example accepted the message');
  expect(posts.map((p) => JSON.parse(p.body).text)).toEqual(['shop: test message from Lifeboat, no backup was made']);
});

test('a good run names sources that it left out', () => {
  const others = Array.from({ length: 7 }, (_, i) => ({ name: `s${i}<!here>`, attention: 'late' as const }));
  const { text, blocks } = slackMessage(makeReport({ others }), { now: NOW, zone: 'UTC' });
  expect(text).toBe('shop: backup ok, but 7 other sources need attention');
  const shown = JSON.stringify(blocks);
  expect(shown).toContain('s4&lt;!here&gt; was not part of this run');
  expect(shown).toContain('and 2 more sources: see `lifeboat status`');
});
