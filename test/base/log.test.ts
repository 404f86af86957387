import { expect, it } from 'vitest';
import { asRun, createLog, nameRun, readable, textLine } from '../../src/base/log.ts';

it('a line of the log is readable at a terminal', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'warn' }, (line) => lines.push(readable(line)));
  log.info('nothing of interest');
  log.warn('a listener failed', { listener: 'slack', code: 'NOTIFY_FAILED', message: 'no answer' });
  log.error('the state is gone');
  expect(lines).toEqual(['warning: a listener failed: no answer (NOTIFY_FAILED)\n', 'error: the state is gone\n']);
});

it('a line of the log is one line of text with LOG_FORMAT=text', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'info' }, (line) => lines.push(textLine(line)));
  log.warn('db.postgres: failed', {
    run: 'r1',
    code: 'PG_AUTH',
    message: 'no\npassword',
    hint: 'set a "password"',
    n: 2,
  });
  expect(lines.join('').replace(/^\S+/, 'TIME')).toBe(
    `TIME warning: db.postgres: failed: no password (PG_AUTH) run=r1 hint="set a \\"password\\"" n=2\n`,
  );
});

/** A log, and the run, message and number of repeats of each line. */
function collect() {
  const lines: unknown[][] = [];
  let clock = 0;
  const log = createLog({ level: 'info', now: () => clock }, (line) => {
    const { run, msg, repeated = 0 } = JSON.parse(line) as Record<string, unknown>;
    lines.push([run, msg, repeated]);
  });
  return { log, lines, wait: (ms: number) => (clock += ms) };
}

it('each line carries the id of its run, also in runs at the same time, and outside of them that of the process', async () => {
  const { log, lines } = collect();
  nameRun('daemon');
  const work = (name: string, ms: number) =>
    asRun(async () => {
      log.info(`${name} begins`);
      nameRun(name);
      await new Promise((resolve) => setTimeout(resolve, ms));
      await asRun(async () => {
        nameRun(`${name}, its safety snapshot`);
        log.info(`${name} is safe`);
      });
      log.info(`${name} ends`);
    });
  await Promise.all([work('a', 5), work('b', 1)]);
  log.info('ready');
  log.info('an old run', { run: 'old' });
  expect(lines.map(([run, msg]) => `${run}: ${msg}`).sort()).toEqual([
    ...['a, its safety snapshot: a is safe', 'a: a ends', 'b, its safety snapshot: b is safe', 'b: b ends'],
    ...['daemon: a begins', 'daemon: b begins', 'daemon: ready', 'old: an old run'],
  ]);
});

it('says the same thing about the same subject once, and again after an hour, with the number of lines between', () => {
  const { log, lines, wait } = collect();
  for (let i = 0; i < 3; i++) {
    log.warn('the engine is away', { code: 'ENGINE_UNREACHABLE' });
    log.warn('not received', { source: 'db.postgres' });
    log.warn('not received', { source: 'other.postgres' });
    wait(60_000);
  }
  expect(lines.map(([, msg]) => msg)).toEqual(['the engine is away', 'not received', 'not received']);
  wait(3_600_000);
  log.warn('the engine is away', { code: 'ENGINE_UNREACHABLE' });
  expect(lines.at(-1)?.slice(1)).toEqual(['the engine is away', 2]);
});

it('what begins, ends and begins again is three lines', () => {
  const { log, lines } = collect();
  for (const message of ['not received', 'receiving', 'not received']) log.warn(message, { source: 'db.postgres' });
  for (const code of ['A', 'B', 'A']) log.warn('the engine is away', { code });
  expect(lines).toHaveLength(6);
});
