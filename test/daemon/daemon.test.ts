import { type ChildProcessWithoutNullStreams as Child, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { BackupRequest } from '../../src/backup/context.ts';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { type DaemonDeps, daemon } from '../../src/daemon/daemon.ts';
import { otherCommands } from '../../src/daemon/other-commands.ts';
import type { Plan } from '../../src/plan/model.ts';
import type { RunReport } from '../../src/report/events.ts';
import { appendJournal } from '../../src/run/journal.ts';
import { openState, type State } from '../../src/run/state.ts';
import { WAIT } from '../harness/wait.ts';
import { makeReport } from '../report/fixtures.ts';

const NIGHTLY = '0 3 * * *';

let directory: string;
let state: State;
let now: Date;
let runs: Omit<BackupRequest, 'signal'>[];
let warnings: string[];
let backup: (request: BackupRequest) => Promise<RunReport>;
let tick: () => Promise<void>;
let stop: AbortController;
let ended: Promise<void> | undefined;
let deps: DaemonDeps;

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-daemon-'));
  state = openState(path.join(directory, 'state'));
  now = new Date('2026-11-20T12:00:00Z');
  runs = [];
  warnings = [];
  backup = async ({ signal: _signal, begun, ...request }) => {
    begun?.();
    runs.push(request);
    return {} as RunReport;
  };
  stop = new AbortController();
  deps = {
    state,
    log: { ...silentLog, warn: (message) => warnings.push(message) },
    now: () => now,
    zone: 'UTC',
    copies: [],
    schedule: NIGHTLY,
    journals: path.join(directory, 'journals'),
    aliveFile: path.join(directory, 'alive', 'file'),
    plan: async () => ({ project: 'shop', sources: [], problems: [] }) as Plan,
    backup: (request) => backup(request),
    recover: vi.fn(async () => undefined),
    isBusy: async () => false,
    others: async () => [],
    watch: async () => undefined,
    everyMinute: (callback) => {
      tick = callback;
      return () => undefined;
    },
  };
  mkdirSync(deps.journals);
});
afterEach(async () => {
  stop.abort();
  await ended;
  rmSync(directory, { recursive: true });
});

/** Starts the daemon. Resolves when it has checked the clock once. */
async function start(): Promise<void> {
  ended = daemon(deps, stop.signal);
  await vi.waitFor(async () => expect(await state.served()).not.toEqual({}), WAIT);
  await tick();
}

/** Makes the daemon check the clock at that time. */
async function at(time: string): Promise<void> {
  now = new Date(time);
  await tick();
}

test('a new schedule has missed no run; at its time it runs once, even with nothing planned', async () => {
  await start();
  expect(runs).toEqual([]);
  await at('2026-11-21T02:59:00Z');
  expect(runs).toEqual([]);
  await at('2026-11-21T03:00:00Z');
  await at('2026-11-21T03:01:00Z');
  expect(runs).toMatchObject([{ trigger: 'schedule' }]);
  await at('2026-11-22T03:00:00Z');
  expect(runs).toHaveLength(2);
});

test('missed runs are caught up at the start, with a single run', async () => {
  await state.saveServed({ [NIGHTLY]: '2026-11-01T03:00:00.000Z' });
  ended = daemon(deps, stop.signal);
  await vi.waitFor(() => expect(runs).toMatchObject([{ trigger: 'catch-up' }]), WAIT);
  await tick();
  await at('2026-11-20T12:01:00Z');
  expect(runs).toHaveLength(1);
});

test('a run that is due during another run follows it', async () => {
  await start();
  const { promise, resolve } = Promise.withResolvers<void>();
  const good = backup;
  backup = async () => {
    await promise;
    throw new LifeboatError('LOCKED', 'another run is under way');
  };
  const put = at('2026-11-21T03:00:00Z');
  // A minute that passes meanwhile starts no parallel run.
  const beside = at('2026-11-21T03:01:00Z');
  resolve();
  await Promise.all([put, beside]);
  await at('2026-11-21T03:05:00Z');
  await at('2026-11-21T03:06:00Z');
  // No run is caught up before it begins.
  expect(warnings).toEqual([]);
  backup = good;
  await at('2026-11-21T03:07:00Z');
  expect(runs).toMatchObject([{ trigger: 'catch-up' }]);
  expect(warnings).toEqual(['catching up on a run that was missed']);
});

test('a run that has not begun when the daemon stops is due at the next start', async () => {
  await start();
  const good = backup;
  backup = async () => {
    stop.abort();
    throw new LifeboatError('INTERRUPTED', 'the run was asked to stop');
  };
  await at('2026-11-21T03:00:00Z');
  await ended;
  expect(await state.retries()).toEqual([]);
  backup = good;
  stop = new AbortController();
  ended = daemon(deps, stop.signal);
  await vi.waitFor(() => expect(runs).toMatchObject([{ trigger: 'schedule' }]), WAIT);
});

test.each([1, 2, 3, 4])('a kill at write %i of the state loses no scheduled run', async (last) => {
  await start();
  const { promise: killed, resolve: kill } = Promise.withResolvers<void>();
  let writes = 0;
  const untilKilled =
    <T>(write: (value: T) => Promise<void>) =>
    async (value: T) => {
      if (++writes < last) return write(value);
      kill();
      return new Promise<void>(() => undefined);
    };
  Object.assign(state, { saveServed: untilKilled(state.saveServed), saveRetries: untilKilled(state.saveRetries) });
  const good = backup;
  backup = async () => {
    throw new LifeboatError('LOCKED', 'another run is under way');
  };
  void at('2026-11-21T03:00:00Z');
  await killed;
  stop.abort();
  stop = new AbortController();
  deps.state = openState(path.join(directory, 'state'));
  backup = good;
  const dead = tick;
  ended = daemon(deps, stop.signal);
  await vi.waitFor(() => expect(tick).not.toBe(dead), WAIT);
  await at('2026-11-21T03:30:00Z');
  expect(runs).toHaveLength(1);
});

test('a spool that cannot be written does not prevent runs, and no run begins twice', async () => {
  await start();
  deps.state.saveServed = async () => {
    throw new Error('disk full');
  };
  await at('2026-11-21T03:00:00Z');
  await at('2026-11-21T03:01:00Z');
  expect(runs).toHaveLength(1);
});

describe('a scheduled run that fails', () => {
  const sources = ['db.postgres', 'web.media'].map((name) => ({ name, schedule: NIGHTLY }));
  const away = { code: 'PG_UNREACHABLE', message: 'away' } as const;
  /** The result of each try, by source. Other sources succeed. */
  let failing: string[];
  let tried: { trigger: string; names: string[]; retryAt: string | undefined }[];

  beforeEach(() => {
    failing = ['db.postgres'];
    tried = [];
    deps.plan = async () => ({ project: 'shop', sources, problems: [] }) as never as Plan;
    backup = async ({ trigger, only, begun, attempt }) => {
      begun?.();
      const names = sources.filter((source) => only?.(source as never)).map(({ name }) => name);
      const at = failing.some((name) => names.includes(name)) ? attempt?.retryAt()?.toISOString() : undefined;
      tried.push({ trigger, names, retryAt: at });
      const results = names.map((name) => ({ name, ...(failing.includes(name) ? failed : { status: 'ok' as const }) }));
      const report = {
        ...makeReport(),
        end: now.toISOString(),
        results,
        ...(at ? { retry: { at, quiet: true } } : {}),
      };
      await state.saveLastRun(report as RunReport);
      return report as RunReport;
    };
  });
  const failed = { status: 'failed' as const, error: away };

  test('is repeated for the failed sources, twice in the same night, and then at its next time', async () => {
    await start();
    for (const minute of ['00', '09', '10', '11', '29', '30', '31', '59']) await at(`2026-11-21T03:${minute}:00Z`);
    expect(tried).toEqual([
      { trigger: 'schedule', names: ['db.postgres', 'web.media'], retryAt: '2026-11-21T03:10:00.000Z' },
      { trigger: 'catch-up', names: ['db.postgres'], retryAt: '2026-11-21T03:30:00.000Z' },
      { trigger: 'catch-up', names: ['db.postgres'], retryAt: undefined },
    ]);
    expect(await state.retries()).toEqual([]);
    await at('2026-11-22T03:00:00Z');
    expect(tried).toHaveLength(4);
  });

  test('is repeated although the spool is full', async () => {
    await start();
    const full = async () => {
      throw new Error('disk full');
    };
    Object.assign(deps.state, { saveServed: full, saveRetries: full });
    for (const minute of ['00', '10', '30', '50']) await at(`2026-11-21T03:${minute}:00Z`);
    expect(tried.map(({ retryAt }) => retryAt?.slice(11, 16))).toEqual(['03:10', '03:30', undefined]);
  });

  test('is not repeated after a run succeeds, scheduled or manual', async () => {
    await start();
    await at('2026-11-21T03:00:00Z');
    failing = [];
    await at('2026-11-21T03:10:00Z');
    await at('2026-11-21T03:30:00Z');
    expect(tried.map(({ names }) => names)).toEqual([['db.postgres', 'web.media'], ['db.postgres']]);
    failing = ['db.postgres'];
    await at('2026-11-22T03:00:00Z');
    const byHand = [{ name: 'db.postgres', status: 'ok' }] as RunReport['results'];
    await state.saveLastRun({ ...makeReport(), end: '2026-11-22T03:05:00Z', results: byHand });
    await at('2026-11-22T03:10:00Z');
    expect(tried).toHaveLength(3);
    expect(await state.retries()).toEqual([]);
  });

  test('is repeated by the next agent too, even if it ended with its agent', async () => {
    await start();
    const died = backup;
    backup = (request) => {
      void died(request);
      return new Promise(() => undefined);
    };
    void at('2026-11-21T03:00:00Z');
    await vi.waitFor(async () => expect(await state.lastRun()).toBeDefined(), WAIT);
    backup = died;
    // The hanging run simulates a killed agent, which does nothing more.
    now = new Date('2026-11-21T08:00:00Z');
    const second = new AbortController();
    const again = daemon({ ...deps, state: openState(state.directory) }, second.signal);
    await vi.waitFor(() => expect(tried).toHaveLength(2), WAIT);
    expect(tried[1]).toMatchObject({ trigger: 'catch-up', names: ['db.postgres'] });
    second.abort();
    await again;
    ended = undefined;
  });

  test('and is due during another run follows it', async () => {
    await start();
    await at('2026-11-21T03:00:00Z');
    const good = backup;
    backup = async () => {
      throw new LifeboatError('LOCKED', 'another run is under way');
    };
    await at('2026-11-21T03:10:00Z');
    backup = good;
    await at('2026-11-21T03:14:00Z');
    expect(tried.map(({ retryAt }) => retryAt)).toEqual(['2026-11-21T03:10:00.000Z', '2026-11-21T03:34:00.000Z']);
  });

  test('is not repeated if its next time comes first', async () => {
    sources[0] = { name: 'db.postgres', schedule: '*/5 * * * *' };
    await start();
    await at('2026-11-20T12:05:00Z');
    expect(tried).toEqual([{ trigger: 'schedule', names: ['db.postgres'], retryAt: undefined }]);
    expect(await state.retries()).toEqual([]);
    sources[0] = { name: 'db.postgres', schedule: NIGHTLY };
  });
});

test('unfinished recovery is tried again every minute', async () => {
  await start();
  expect(deps.recover).toHaveBeenCalledTimes(1);
  appendJournal(path.join(deps.journals, 'a.ndjson'), { type: 'start', verb: 'restore', id: 'a' });
  await at('2026-11-20T12:01:00Z');
  await at('2026-11-20T12:02:00Z');
  expect(deps.recover).toHaveBeenCalledTimes(3);
});

test('and at first sooner than after a minute, until nothing is left', async () => {
  deps.recoverAgainMs = 5;
  await start();
  const looks = () => vi.mocked(deps.recover).mock.calls.length;
  const journal = path.join(deps.journals, 'a.ndjson');
  appendJournal(journal, { type: 'start', verb: 'restore', id: 'a' });
  await tick();
  await vi.waitFor(() => expect(looks()).toBeGreaterThan(4), WAIT);
  rmSync(journal);
  await tick();
  const now = looks();
  await tick();
  expect(looks()).toBe(now);
});

test('a stop is passed to the current run, and waits for it', async () => {
  await start();
  const heard: string[] = [];
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  backup = ({ signal }) =>
    new Promise((resolve) => {
      begin();
      signal.addEventListener('abort', () => {
        heard.push('abort');
        setTimeout(() => {
          heard.push('ended');
          resolve({} as RunReport);
        }, 20);
      });
    });
  void at('2026-11-21T03:00:00Z');
  await begun;
  stop.abort();
  await ended;
  expect(heard).toEqual(['abort', 'ended']);
});

test('a stop is passed to the commands in other processes, also without a run, and waits for them', async () => {
  await start();
  const script = path.join(directory, 'command.mjs');
  const ends = "process.on('SIGTERM', () => setTimeout(() => process.exit(130), 200));";
  writeFileSync(script, `${ends} setInterval(() => undefined, 60_000); process.stdout.write('.');`);
  const [command, job] = [[], ['tree-job']].map((args) => spawn(process.execPath, [script, ...args])) as [Child, Child];
  await Promise.all([command, job].map(({ stdout }) => once(stdout, 'data')));
  deps.others = () => otherCommands(script);
  const gone = once(command, 'exit');
  stop.abort();
  await ended;
  expect(command.exitCode).toBe(130);
  await gone;
  // The command that started the job ends it.
  expect([job.exitCode, job.signalCode]).toEqual([null, null]);
  job.kill('SIGKILL');
});

test('a stop sends the alarms that wait before the other commands have ended', async () => {
  await start();
  const sent = new Promise<void>((resolve) => {
    deps.alarms = { flush: async () => resolve() };
  });
  let busy = true;
  deps.isBusy = async () => busy;
  stop.abort();
  await sent;
  busy = false;
  await ended;
});

test('a stop waits for a run that is under way, whatever process makes it', async () => {
  await start();
  let busy = true;
  deps.isBusy = async () => busy;
  stop.abort();
  let isOver = false;
  void ended?.then(() => {
    isOver = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 250));
  expect(isOver).toBe(false);
  busy = false;
  await ended;
});

test('each new run is logged with its causes, also a run of another process', async () => {
  const logged: string[] = [];
  const note = (level: string) => (message: string, fields?: Record<string, unknown>) =>
    void logged.push(`${level} ${message} ${fields?.code ?? ''}`.trim());
  deps.log = { debug: () => undefined, info: note('info'), warn: note('warn'), error: note('error') };
  const old = makeReport({ id: 'old' });
  await state.saveLastRun(old, old);
  await start();
  expect(logged.filter((line) => line.includes('backup'))).toEqual([]);
  const report = makeReport({
    id: 'new',
    status: 'partial',
    problems: [{ severity: 'error', code: 'LABEL_UNKNOWN', subject: 'worker', message: 'unknown label x' }],
  });
  await state.saveLastRun(report, report);
  await tick();
  await tick();
  const lines = logged.filter((line) => /backup|worker|db\.postgres|web\.media/.test(line));
  expect(lines).toEqual([
    'warn shop: backup partly failed (1 problem)',
    'info web.media: ok · 20,114 files · 3.1 MiB new (17 files)',
    'error worker: unknown label x LABEL_UNKNOWN',
  ]);
});
