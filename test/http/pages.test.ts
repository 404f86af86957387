import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { filesBody } from '../../src/http/page/files.ts';
import { homeBody } from '../../src/http/page/home.ts';
import { renderPage } from '../../src/http/page/layout.ts';
import { snapshotBody } from '../../src/http/page/snapshot.ts';
import { prose } from '../../src/http/page/text.ts';
import { judge } from '../../src/http/page/verdict.ts';
import type { Overview } from '../../src/overview/overview.ts';
import type { DrillReport } from '../../src/report/drill-report.ts';
import type { SourceStatus } from '../../src/run/source-status.ts';
import { makeReport } from '../report/fixtures.ts';
import { makeFacts, NOW, serve } from './fixtures.ts';

const get = async (path: string, options: Parameters<typeof serve>[0] = {}) =>
  (await serve(options).request(path)).text();

/** The text of a page without its markup. */
const textOf = (page: string) =>
  page
    .replace(/<(style|script)>.*?<\/\1>/gs, '')
    .replace(/<[^>]*>/g, ' ')
    .replaceAll('&#39;', "'")
    .replace(/\s+/g, ' ');

describe('the first page', () => {
  test('says in one sentence that all is well', async () => {
    const text = textOf(await get('/'));
    expect(text).toContain('All four sources are safe.');
    expect(text).toContain('Everything is also at s3://acme-backups/shop, complete 3h ago.');
    expect(text).toContain('Next run tomorrow 03:00 CET.');
    expect(text).toContain('safe · any second of the last 7 days');
    expect(text).toContain('Could be lost now 4s of work');
    expect(text).toContain('13 Nov failed (DEST_UNREACHABLE)');
  });

  test('is one request: it loads nothing', async () => {
    const page = await get('/');
    expect(page).not.toMatch(/\ssrc=|@import|url\(/);
    expect([...page.matchAll(/<link[^>]*href="([^"]*)"/g)].map(([, href]) => href?.slice(0, 5))).toEqual(['data:']);
    // The policy allows no style attribute and no handler.
    expect(page).not.toMatch(/\sstyle=|\son\w+=/);
  });

  test('without a run in progress, there is no script and no reload', async () => {
    const page = await get('/');
    expect(page).not.toContain('<script>');
    expect(page).not.toContain('http-equiv');
  });

  test('shows a run in progress, and reloads without JavaScript', async () => {
    const run = { id: '20261128T050000Z-aaaaaa', start: '2026-11-28T05:11:00Z' };
    const start = { type: 'start', verb: 'backup', run };
    const page = await get('/', { over: { runsUnderWay: async () => [{ file: '', start }] as never } });
    expect(textOf(page)).toContain('A backup is in progress 20261128T050000Z-aaaaaa · began 1m ago');
    expect(page).toContain('<noscript><meta http-equiv="refresh"');
    expect(page).toContain('<script>');
  });

  test('an empty project', async () => {
    const facts = makeFacts({
      plan: { project: 'shop', sources: [], problems: [] },
      ...{ sources: [], windows: [], copies: [], places: [{ name: '/backups' }] },
      found: { manifests: [], damaged: [], objects: [] },
    });
    facts.runs.length = 0;
    const text = textOf(await get('/', { facts }));
    expect(text).toContain('Nothing is backed up: no service has a label of Lifeboat.');
    expect(text).toContain('Stored at /backups only.');
  });

  test('a source that failed shows why, and the command to type', async () => {
    const facts = makeFacts();
    const error = { code: 'PG_AUTH', message: 'the database refused', hint: 'Set `LIFEBOAT_PGUSER`.' } as const;
    facts.overview.sources = facts.overview.sources.map(
      (source): SourceStatus =>
        source.name === 'db.postgres'
          ? { ...source, attention: 'failed', last: { run: 'x', at: NOW.toISOString(), status: 'failed', error } }
          : source,
    );
    const page = await get('/', { facts });
    expect(textOf(page)).toContain('1 of 4 sources needs attention: db.postgres.');
    expect(textOf(page)).toContain('the database refused (PG_AUTH) Set LIFEBOAT_PGUSER .');
    expect(page).toContain('<code>LIFEBOAT_PGUSER</code>');
    expect(page).toContain('lifeboat backup db.postgres');
    // It comes first.
    expect(page.indexOf('<h2>db.postgres</h2>')).toBeLessThan(page.indexOf('<h2>config</h2>'));
  });

  test('a thousand sources are a table', async () => {
    const facts = makeFacts();
    const [one] = facts.overview.sources;
    facts.overview.sources = Array.from({ length: 1000 }, (_, i) => ({ ...one!, name: `volume.${i}` }));
    const page = await get('/', { facts });
    expect(page.length).toBeLessThan(500_000);
    expect(page).toContain('volume.999');
  });
});

describe('the verdict', () => {
  const say = (over: Partial<Overview>) => {
    const { tone, text } = judge({ ...makeFacts().overview, ...over }, { now: NOW });
    return `${tone}: ${text}`;
  };
  const sources = (attention: SourceStatus['attention']) =>
    makeFacts().overview.sources.map((source, i) => (i === 0 ? { ...source, attention } : source));

  test('names what needs attention, and how much', () => {
    expect(say({})).toBe('ok: All four sources are safe.');
    expect(say({ sources: sources('failed') })).toBe('warn: 1 of 4 sources needs attention: config.');
    expect(say({ sources: sources('fell') })).toBe('bad: 1 of 4 sources needs attention: config.');
    expect(say({ sources: sources('never') })).toBe('warn: No backup yet of config.');
    expect(say({ copies: [{ name: '/nas', behindSince: NOW.toISOString() }] })).toBe(
      'warn: All four sources are safe, but /nas is behind.',
    );
    const problem = new LifeboatError('DEST_UNREACHABLE', 'no answer');
    expect(say({ found: { manifests: [], damaged: [], objects: [], problem } })).toBe(
      'bad: The backups at /backups cannot be read.',
    );
    const code = { code: 'LABEL_UNKNOWN', subject: 'x', message: 'unknown label' } as const;
    expect(say({ problems: [{ severity: 'error', ...code }] })).toBe(
      'warn: All four sources are safe, but there is a problem.',
    );
    expect(say({ problems: [{ severity: 'warning', ...code }] })).toBe('ok: All four sources are safe.');
  });
});

describe('the first sentence does not say that all is well', () => {
  const say = (over: Partial<Overview>, drills: readonly DrillReport[] = []) => {
    const { tone, text, more } = judge({ ...makeFacts().overview, ...over }, { now: NOW, drills });
    return { head: `${tone}: ${text}`, more };
  };
  const withResult = (status: 'ok' | 'failed'): DrillReport[] =>
    makeFacts().drills.map((drill) => ({
      ...drill,
      results: drill.results.map((result) => (result.source === 'web.media' ? { ...result, status } : result)),
    }));

  test('when the last drill failed, even if no drill ever succeeded', () => {
    expect(say({}, withResult('failed')).head).toBe('bad: 1 of 4 sources needs attention: web.media.');
    const [drill] = withResult('failed');
    const only = [{ ...drill!, results: drill!.results.filter(({ source }) => source === 'web.media') }];
    expect(say({}, only).more).toContain('The last drill of web.media failed.');
  });

  test('when a target is not met, or WAL is not received', () => {
    const target = { kind: 'rpo', targetMs: 1000, measuredMs: 2000, met: false, why: 'too old' } as const;
    const targets = [{ name: 'db.postgres', targets: [target] }];
    expect(say({ targets }).head).toBe('warn: 1 of 4 sources needs attention: db.postgres.');
    const [one] = makeFacts().overview.windows;
    const windows = [{ ...one!, receiver: { ...one!.receiver!, state: 'failed' as const } }];
    expect(say({ windows }).head).toBe('bad: 1 of 4 sources needs attention: db.postgres.');
  });

  test('when copies are behind, or were never made', () => {
    const behindSince = NOW.toISOString();
    const both = [
      { name: '/nas', behindSince },
      { name: '/usb', behindSince },
    ];
    expect(say({ copies: both }).head).toBe('warn: All four sources are safe, but /nas and /usb are behind.');
    const { copies } = makeFacts().overview;
    expect(say({ copies: [...copies, { name: '/nas' }] }).head).toBe(
      'warn: All four sources are safe, but nothing is at /nas yet.',
    );
  });

  test('when snapshots cannot be used, or the last run failed as a whole', () => {
    const { manifests } = makeFacts().overview.found;
    const error = new LifeboatError('KEY_MISSING', 'no key can decrypt it');
    const found = { manifests, objects: [], damaged: [{ id: 'x', error }] as never };
    expect(say({ found }).head).toBe('warn: All four sources are safe, but there is a problem.');
    const last = makeReport({ status: 'failed', error: { code: 'LOCKED', message: 'another run' }, results: [] });
    expect(say({ last }).head).toBe('warn: All four sources are safe, but the last run failed.');
  });

  test('when the facts are old', () => {
    const at = new Date(NOW.getTime() - 3 * 3_600_000);
    const { tone, text, more } = judge(makeFacts({ at }).overview, { now: NOW, isStale: true });
    expect([tone, text, more[0]]).toEqual([
      'warn',
      'The state is unknown: the last look was 3h ago.',
      'At that time: All four sources are safe.',
    ]);
  });

  test('when only some sources are proven', () => {
    const drills = makeFacts().drills.map((drill) => ({
      ...drill,
      results: drill.results.filter(({ source }) => source === 'db.postgres'),
    }));
    expect(say({}, drills).more).toContain('1 of 4 sources proven by a drill 47h ago.');
  });

  test('when labels are wrong, it does not say that there are none', () => {
    const problem = { severity: 'error', code: 'LABEL_INVALID', subject: 'db', message: 'no boolean' } as const;
    const plan = { project: 'shop', sources: [], problems: [problem] };
    expect(say({ plan, sources: [] }).head).toBe('bad: Nothing is backed up.');
  });
});

test('the list of snapshots tells a recovery from a backup, and says what each holds', async () => {
  const facts = makeFacts();
  const [first, second] = facts.overview.found.manifests;
  const imported = { at: '2026-11-27T10:30:05.000Z', file: 'recovery to 2026-11-27 10:30:05+00' };
  facts.overview.found.manifests = [
    { ...first!, trigger: 'import', imported },
    { ...second!, trigger: 'safety' },
  ];
  const text = textOf(await get('/snapshots', { facts }));
  expect(text).toContain('made by, holds');
  expect(text).toContain('3h ago ok import, state of 2026-11-27 10:30:05Z config, db.postgres and web.media');
  expect(text).toContain('safety config, db.postgres and web.media');
});

test('data from before a restore has the commands that bring it back and delete it', async () => {
  const at = '2026-11-28T04:00:00.000Z';
  const restores = [{ id: '20261128T040000Z-aaaaaa', at, source: 'web.media', inUse: 'restored', bytes: 1 }];
  const kept = { restores, stray: [] } as unknown as Overview['kept'];
  const text = textOf(await get('/', { facts: makeFacts({ kept }) }));
  expect(text).toContain('To undo the restore: docker compose exec lifeboat lifeboat rollback 20261128T040000Z-aaaaaa');
  expect(text).toContain('lifeboat rollback 20261128T040000Z-aaaaaa --forget');
});

test('a card says that a drill failed and a target is not met, and what to do', async () => {
  const facts = makeFacts();
  const why = 'its last good snapshot is 3h old; the target is 1h';
  facts.overview.targets = [
    { name: 'web.media', targets: [{ kind: 'rpo', targetMs: 3_600_000, met: false, by: 'snapshots', why }] },
  ];
  const [result] = facts.drills[0]!.results;
  facts.drills[0]!.results[0] = {
    ...result!,
    ...{ status: 'failed', error: { code: 'DRILL_FAILED' as never, message: 'rows differ' } },
  };
  const text = textOf(await get('/', { facts }));
  expect(text).toContain('db.postgres its last drill failed');
  expect(text).toContain('Its last drill failed : rows differ (DRILL_FAILED).');
  expect(text).toContain('web.media safe, but a target is not met');
  expect(text).toContain('Target for lost work 1h · not met');
  expect(text).toContain(`${why} docker compose exec lifeboat lifeboat backup web.media`);
});

test('the page of a drill has its targets, what is not proven, and what corrected a failure', async () => {
  const facts = makeFacts();
  const [drill] = facts.drills;
  const [result] = drill!.results;
  const later = '20261127T060000Z-d222aa';
  const failed: DrillReport = {
    ...drill!,
    ...{ status: 'failed', unproven: ['web.media: the snapshot lacks a part (permission denied)'] },
    results: [
      { ...result!, status: 'failed', rto: { targetMs: 10_000, met: false } },
      { ...result!, source: 'web.media', kind: 'volume', status: 'failed', share: 0.05 },
      { ...result!, source: 'config', kind: 'files', status: 'unproven' },
    ],
  };
  facts.drills = [failed];
  facts.evidence = {
    drills: [{ ...failed, signature: 'signed', corrected: { 'db.postgres': later } }],
    problems: [{ id: later, error: { code: 'CHAIN_BROKEN', message: 'evidence is missing' } }],
  };
  const html = await get(`/drills/${failed.id}`, { facts });
  const text = textOf(html);
  expect(text).toContain('Restored in 38s (target 10s, not met)');
  expect(text).toContain(`evidence ${failed.id}, signed`);
  expect(text).toContain(`Corrected: drill ${later} proves this source.`);
  expect(html).toContain(`href="/drills/${later}"`);
  expect(text).toContain('No later drill proves this source.');
  expect(text).toContain('Restored files a share of 5 %');
  // The reason is not always a key.
  expect(text).toContain('config proved only a part');
  expect(text).toContain('Not proven web.media: the snapshot lacks a part (permission denied)');
  expect(textOf(await get('/drills', { facts }))).toContain('evidence is missing (CHAIN_BROKEN)');
});

test('the retention of thousands of snapshots is on several pages', async () => {
  const facts = makeFacts();
  const [one] = facts.overview.found.manifests;
  facts.overview.found.manifests = Array.from({ length: 1000 }, (_, i) => ({ ...one!, id: `${one!.id}-${i}` }));
  const first = await get('/retention', { facts });
  expect(first.length).toBeLessThan(100_000);
  expect(first).toContain('/retention?after=100');
  expect(await get('/retention?after=900', { facts })).not.toContain('older snapshots');
});

test('a thousand problems do not make a page of megabytes', async () => {
  const problems = Array.from({ length: 1000 }, (_, i) => ({
    ...{ severity: 'error', code: 'LABEL_UNKNOWN', subject: `s${i}`, message: `unknown label ${i}` },
  })) as never;
  const page = await get('/', { facts: makeFacts({ problems }) });
  expect(page.length).toBeLessThan(100_000);
  expect(textOf(page)).toContain('and 950 more problems');
});

test('a snapshot whose clock ran backwards took no negative time', async () => {
  const facts = makeFacts();
  const [one] = facts.overview.found.manifests;
  facts.overview.found.manifests = [{ ...one!, end: one!.start, start: one!.end }];
  expect(textOf(await get(`/snapshots/${one!.id}`, { facts }))).toContain('Took 0s');
});

test('retention says why each snapshot stays, and when it goes', async () => {
  const text = textOf(await get('/retention'));
  expect(text).toContain('The next prune removes no snapshot.');
  expect(text).toContain('pinned: before deploy 4.2');
  expect(text).toMatch(/(tomorrow|\d+ (Dec|Nov))/);
  expect(text).toContain('not within a year');
});

describe('drills', () => {
  test('are on the first page, in a list, and each has a report', async () => {
    const home = textOf(await get('/'));
    expect(home).toContain('Proven by a drill 47h ago.');
    expect(home).toContain('Last drill 47h ago · everything equal · restored in 38s');
    expect(textOf(await get('/drills'))).toContain(
      'everything equal 1m 12s db.postgres, db.postgres.base, web.media and config',
    );
    const report = textOf(await get('/drills/20261126T060000Z-d111aa'));
    expect(report).toContain('drill ok in 1m 12s · 4 sources');
    expect(report).toContain('61 tables, 1,521,238 rows equal');
    expect(report).toContain('rows app equal 1,402,003');
    expect(report).toContain('amcheck of indexes app not checked the image has no amcheck');
  });

  test('a project without drills says nothing about them', async () => {
    const facts = { ...makeFacts(), drills: [] };
    const home = textOf(await get('/', { facts }));
    expect(home).not.toContain('Last drill');
    expect(home).not.toContain('Proven');
    expect(textOf(await get('/drills', { facts }))).toContain('No drill yet');
  });
});

describe('hostile text', () => {
  /** Markup, quotes, separators of lines and of directions, lone surrogates, secrets of other syntaxes. */
  const hostile = fc
    .array(
      fc.oneof(
        fc.constantFrom(
          '<script>alert(1)</script>',
          '"><img src=x onerror=x>',
          "' onload='x",
          '</style><b>',
          '&lt;',
          '`',
        ),
        fc.constantFrom(
          // biome-ignore lint/suspicious/noTemplateCurlyInString: it must stay as it is
          '${x}',
          '\u202e',
          '\u2028',
          '\0',
          '\ud800',
          '<!--',
          ']]>',
          'javascript:x',
          '\n\n',
          '--',
          '%3Cb%3E',
        ),
        fc.string({ unit: 'binary', maxLength: 8 }),
      ),
      { maxLength: 6 },
    )
    .map((parts) => parts.join(''));

  /** The tags and attributes of a page, without what is between tags. */
  const skeleton = (page: string) =>
    [...page.matchAll(/<([a-z!/][^\s>]*)((?:\s+[\w:-]+="[^"]*")*)\s*\/?>/gi)].map(
      ([, tag, attributes = '']) =>
        `${tag} ${[...attributes.replaceAll(/"[^"]*"/g, '').matchAll(/([\w:-]+)=/g)].map(([, name]) => name).join()}`,
    );
  const isHarmless = (page: string) => {
    // Whatever is left of a text between tags has no opening bracket.
    const rest = page.replace(/<(style|script)>.*?<\/\1>/gs, '').replace(/<[a-z!/][^<>]*>/gi, '');
    expect(rest).not.toContain('<');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
    expect(rest).not.toMatch(/[\x00-\x08\u202a-\u202e\u2066-\u2069]/);
    expect(skeleton(page).filter((tag) => /^(script|img|iframe|b) /.test(tag) || /\bon\w+/.test(tag))).toEqual([]);
  };

  test('no name, message or path becomes markup', () => {
    const facts = makeFacts();
    const [manifest] = facts.overview.found.manifests;
    fc.assert(
      fc.property(hostile, (text) => {
        const error = { code: 'PG_QUERY', message: text, hint: text, cause: text } as const;
        const sources = facts.overview.sources.map(
          (source): SourceStatus => ({
            ...{ ...source, name: text, attention: 'failed' },
            last: { run: text, at: NOW.toISOString(), status: 'failed', error },
          }),
        );
        const problems = [
          { severity: 'error', code: 'LABEL_UNKNOWN', subject: text, message: text, hint: text } as const,
        ];
        const copies = [{ name: text, behindSince: NOW.toISOString(), error }];
        const over = { sources, problems, copies, project: text, destination: text };
        const overview = { ...facts.overview, ...over };
        const whole = (body: Parameters<typeof renderPage>[0]['body']) =>
          String(renderPage({ project: text, version: text, title: text, body }));
        const snapshots = { manifests: overview.found.manifests, foreseen: new Map(), zone: 'UTC' };
        isHarmless(
          whole(homeBody({ overview, runs: facts.runs, drills: [], snapshots, live: null, now: NOW, stale: text })),
        );
        const table = { schema: text, name: text, rows: 1, exact: true, bytes: 1 };
        const server = { server: { version: text }, databases: [{ name: text, size: 1, tables: [table] }] };
        const entry = { ...manifest!.sources['db.postgres']!, summary: text, warnings: [text], error };
        const snapshot = { ...manifest!, agentVersion: text, sources: { [text]: entry } };
        const shown = { facts: new Map([[text, server]]), now: NOW, zone: 'UTC' };
        isHarmless(whole(snapshotBody(snapshot, shown)));
        const bytes = Buffer.from(text, 'utf8').toString('latin1');
        const child = { name: bytes, type: 'directory', bytes: 1, files: 1, mtime: 0n } as const;
        const children = [child, { ...child, type: 'file' } as const];
        const place = { snapshot: manifest!.id, source: text, directory: bytes, after: 0 };
        isHarmless(whole(filesBody({ ...place, children, total: 2, found: true })));
      }),
      { numRuns: 60 },
    );
  });

  test('backticks make code only in pairs', () => {
    expect(String(prose('run `a <b>` now'))).toBe('run <code>a &lt;b&gt;</code> now');
    expect(String(prose('a ` b'))).toBe('a ` b');
  });
});
