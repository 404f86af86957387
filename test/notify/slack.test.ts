import { describe, expect, test } from 'vitest';
import type { PostRequest } from '../../src/notify/http.ts';
import { createSlack, type SlackMessage, slackMessage } from '../../src/notify/slack.ts';
import { mrkdwn, withCommands } from '../../src/notify/slack-text.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import { renderReport } from '../../src/report/text.ts';
import { makeFailure, makeReport, makeResult, NOW } from '../report/fixtures.ts';
import { notifierOf } from './notifier-of.ts';

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
    sources: ['x; rm -rf'],
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
  expect(all).toMatch(/try again: `docker compose exec lifeboat lifeboat backup`$/);
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
    const slack = notifierOf(createSlack({ url: new URL('https://hooks.slack.example/x'), post }));
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
  const slack = notifierOf(createSlack({ url: new URL('https://hooks.slack.example/x'), post }));
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

describe('the command that a user must type', () => {
  const command = '`docker compose exec lifeboat lifeboat accept s3://acme-backups/shop`';
  const typed = command.replaceAll('`', "'");
  const prose = 'The copy was complete before, and nothing is there now. '.repeat(12);
  const hint = `${prose}If it is empty on purpose, run ${command} & wait. ${prose}`;
  const error = { code: 'DEST_FOREIGN', message: 'x is empty', hint } as const;
  const copy = { name: 'x', status: 'failed' as const, snapshots: 0, objects: 0, bytes: 0, error };
  const fell = { since: '20261119T030000Z-aa01be', earlier: '20261118T030000Z-aa01be', why: [] };

  test.each([
    ['a failed source', { results: [makeFailure({ error })] }],
    ['a failed run', { error, results: [] }],
    ['a copy', { copies: [copy] }],
    ['a problem', { problems: [{ ...error, severity: 'error' as const, subject: 's' }] }],
    [
      'a problem of a copy',
      {
        copies: [
          { ...copy, status: 'ok' as const, problems: [{ ...error, severity: 'error' as const, subject: 's' }] },
        ],
      },
    ],
    ['another source', { others: [{ name: 'web.media', attention: 'failed' as const, error }] }],
  ])('survives a long hint: %s', (_what, over) => {
    const all = texts(slackMessage(makeReport({ status: 'partial', ...over }), when));
    for (const text of all) expect(text.length).toBeLessThanOrEqual(3_000);
    const lines = all.join('\n').split('\n');
    expect(lines).toContain(`run: ${typed}`);
    // The hint itself is shorter, and ends before the command.
    const shown = lines.find((line) => line.startsWith('hint: ')) ?? '';
    expect(shown.length).toBeLessThan(520);
    expect(shown).toMatch(/…$/);
  });

  test('appears once if the hint is short', () => {
    const short = { ...error, hint: `Run ${command}.` };
    const all = texts(slackMessage(makeReport({ status: 'partial', copies: [{ ...copy, error: short }] }), when)).join(
      '\n',
    );
    expect(all.split(typed)).toHaveLength(2);
    expect(all).toContain(`hint: Run ${typed}.`);
  });

  test('survives in warnings, of which each has three', () => {
    const name = 'n'.repeat(120);
    const message = slackMessage(
      makeReport({ results: [makeResult({ name, warnings: ['w'.repeat(999)], fell })] }),
      when,
    );
    const all = texts(message).join('\n');
    for (const words of [`restore ${fell.since} ${name}`, `restore ${fell.earlier} ${name}`, `accept ${name}`])
      expect(all).toContain(`'lifeboat ${words}'`);
  });

  test('to undo a restore survives a long list of databases', async () => {
    const posts: PostRequest[] = [];
    const post = async (request: PostRequest) => {
      posts.push(request);
      return { status: 200, headers: {}, body: 'ok' };
    };
    const slack = notifierOf(createSlack({ url: new URL('https://hooks.slack.example/x'), post }));
    const restored = Array.from({ length: 60 }, (_, i) => ({ target: `database_${i}` }));
    const report: RestoreReport = {
      ...{ id: 'r1', project: 'shop', verb: 'restore', source: 'db.postgres', target: 'db.postgres', snapshot: 's1' },
      ...{ start: '2026-11-20T03:00:00Z', end: '2026-11-20T03:00:41Z', status: 'ok', restored, steps: [], checks: [] },
      ...{ canRollBack: true, warnings: [`stopped: ${prose}`] },
    };
    await slack.handle({ type: 'restore-finished', report }, new AbortController().signal);
    const all = texts(JSON.parse(posts[0]?.body ?? '') as SlackMessage).join('\n');
    expect(all).toContain('to undo it: lifeboat rollback r1');
    expect(all).toMatch(/and \d+ more lines/);
  });
});

test('a run with problems alone names the first in the title, with a next step, and each id once', () => {
  const id = '20261119T030000Z-aa01be';
  const problem = {
    ...({ severity: 'error', code: 'SIGNATURE_KEY', subject: id } as const),
    ...{ message: `the manifest of ${id} was signed with another key (0badcafe)`, hint: 'Add that key.' },
  };
  const message = slackMessage(makeReport({ status: 'partial', problems: [problem] }), when);
  expect(message.text).toBe(
    `shop: backup partly failed (1 problem) · the manifest of ${id} was signed with another key (0badcafe) (SIGNATURE_KEY)`,
  );
  expect(texts(message)).toContain(
    `! the manifest of ${id} was signed with another key (0badcafe) (SIGNATURE_KEY)\nhint: Add that key.`,
  );
  const copy = { name: '/nas', status: 'failed' as const, snapshots: 0, objects: 0, bytes: 0 };
  const error = { code: 'DEST_UNREACHABLE', message: '/nas does not answer' } as const;
  expect(slackMessage(makeReport({ status: 'partial', copies: [{ ...copy, error }] }), when).text).toBe(
    'shop: backup partly failed (1 copy is behind) · copy /nas is behind: /nas does not answer (DEST_UNREACHABLE)',
  );
});

test('a run that failed as a whole says what is safe, and how to make it again', () => {
  const lastGood = { snapshot: '20261119T030000Z-aa01be', at: '2026-11-19T03:00:00Z' };
  const error = { code: 'DEST_FULL', message: '/backups has no space left' } as const;
  const safe = [{ name: 'db.postgres', lastGood }, { name: 'web.media', lastGood }, { name: 'config' }];
  const sources = safe.map(({ name }) => name);
  const report = makeReport({ status: 'failed', trigger: 'manual', error, results: [], sources, safe });
  delete report.snapshot;
  const lines = [
    'safe: the last good snapshot is 24h old (20261119T030000Z-aa01be): db.postgres, web.media',
    'not safe: nothing is stored of this source yet: config',
  ];
  const again = 'docker compose exec lifeboat lifeboat backup db.postgres web.media config';
  const slack = texts(slackMessage(report, when));
  expect(slack).toContain(lines.join('\n'));
  expect(slack.at(-1)).toContain(`try again: \`${again}\``);
  const ping = renderReport(report, { ...when, again: true });
  for (const line of [...lines, `try again: ${again}`]) expect(ping).toContain(`\n  ${line}\n`);
  // Lifeboat tries again by itself.
  const retry = { at: '2026-11-20T03:10:00Z', quiet: true };
  expect(renderReport({ ...report, retry }, { ...when, again: true })).not.toContain('try again');
  // All of them are one command.
  const many = { ...report, sources: [...sources, 'more'] };
  expect(renderReport(many, { ...when, again: true })).toContain(
    'try again: docker compose exec lifeboat lifeboat backup\n',
  );
  // A source that is gone cannot be backed up.
  const gone = makeFailure({ error: { code: 'SOURCE_VANISHED', message: 'gone' } });
  expect(texts(slackMessage(makeReport({ status: 'partial', results: [gone] }), when)).at(-1)).not.toContain(
    'try again',
  );
});

test('a long list of what is safe keeps the snapshot and its age, and counts the sources that it leaves out', () => {
  const of = (day: number, count: number) =>
    Array.from({ length: count }, (_, i) => ({
      name: `service-with-a-long-name-${day}-${i}.postgres`,
      lastGood: { snapshot: `202611${day}T030000Z-aa01be`, at: `2026-11-${day}T03:00:00Z` },
    }));
  const error = { code: 'DEST_FULL', message: '/backups has no space left' } as const;
  const safe = [...of(19, 40), ...[18, 17, 16, 15, 14, 13].flatMap((day) => of(day, 2))];
  const slack = texts(slackMessage(makeReport({ status: 'failed', error, results: [], safe }), when)).join('\n');
  expect(slack).toContain('safe: the last good snapshot is 24h old (20261119T030000Z-aa01be): service-with');
  expect(slack).toContain('-24.postgres, and 15 more\n');
  expect(slack).toContain('and 4 more sources: see');
});

test.each([100, 20])('a command that is too long for a message is left out as a whole, with a limit of %i', (max) => {
  const long = `lifeboat restore ${'x'.repeat(400)}`;
  const shown = withCommands(`Make room first, then run \`${long}\`, or \`lifeboat status\`.`, max).join('\n');
  expect(shown).not.toContain('xxx');
  expect(shown).toContain('a command is too long for this message');
  expect(shown).toContain('lifeboat status');
});

test('commands that no longer fit are counted', () => {
  const all = [1, 2, 3, 4, 5].map((i) => `\`lifeboat restore ${i}\``).join(', ');
  expect(withCommands(`Run ${all}`, 5).at(-1)).toBe('and 2 more commands');
});
