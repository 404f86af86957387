import { readdirSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { conclude } from '../../src/drill/conclude.ts';
import { drill } from '../../src/drill/drill.ts';
import { readDrills } from '../../src/drill/evidence.ts';
import { judgeTargets } from '../../src/drill/judge-targets.ts';
import { askedOf } from '../../src/drill/record.ts';
import { runSmokeTests } from '../../src/drill/stack-drill.ts';
import { overdueTurns } from '../../src/drill/turns.ts';
import type { PlannedSource } from '../../src/plan/model.ts';
import type { DrillAsked, DrillReport, DrillResult } from '../../src/report/drill-report.ts';
import { frame } from '../harness/stub-engine.ts';
import { DrillBench } from './drill-bench.ts';

let bench: DrillBench;
beforeEach(() => {
  bench = new DrillBench();
});
afterEach(() => bench.remove());

const statuses = ({ results }: { results: readonly { source: string; status: string }[] }) =>
  Object.fromEntries(results.map(({ source, status }) => [source, status]));

describe('a drill that ends early', () => {
  test('names the sources that it did not come to, also in its evidence', async () => {
    bench.sources = ['web.media', 'web.other'];
    const signal = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'the next backup is due'));
    const report = await drill(bench.deps(), bench.request({ signal }));
    expect(statuses(report)).toEqual({ 'web.media': 'interrupted', 'web.other': 'interrupted' });
    expect(report).toMatchObject({ status: 'interrupted', error: { code: 'INTERRUPTED' } });
    const [stored] = (await readDrills(await bench.main())).drills;
    expect(stored && statuses(stored.report)).toEqual(statuses(report));
  });

  test('is an early end for the sources that it did not come to', async () => {
    bench.sources = ['web.media', 'web.other'];
    const signal = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'the next backup is due'));
    const overdue = () => overdueTurns(bench.copies.state.directory, bench.sources, new Date('2026-11-20T06:30:00Z'));
    expect(await overdue()).toEqual([]);
    await drill(bench.deps(), bench.request({ signal, sources: ['web.other'] }));
    expect(await overdue()).toEqual(['web.other']);
    await drill(bench.deps({ now: later }), bench.request({ signal }));
    expect(await overdue()).toEqual(['web.other']);
  });

  test.each([
    ['INTERRUPTED', 'the next backup is due'],
    ['DRILL_FAILED', 'the drill took longer than 12h'],
  ] as const)('is none if everything was done and only the cleaning up was left: %s', async (code, message) => {
    bench.sources = ['web.media'];
    const stop = new AbortController();
    const clear = async () => stop.abort(new LifeboatError(code, message));
    const report = await drill(bench.deps({ clear }), bench.request({ signal: stop.signal }));
    // No backup of it is stored yet.
    expect(statuses(report)).toEqual({ 'web.media': 'unproven' });
    expect({ status: report.status, error: report.error }).toEqual({ status: 'unproven', error: undefined });
  });

  test('has failed if its time was up, and names what it did not come to', async () => {
    bench.sources = ['web.media'];
    const signal = AbortSignal.abort(new LifeboatError('DRILL_FAILED', 'the drill took longer than 12h'));
    const report = await drill(bench.deps(), bench.request({ signal }));
    expect(statuses(report)).toEqual({ 'web.media': 'interrupted' });
    expect(report).toMatchObject({ status: 'failed', error: { code: 'DRILL_FAILED' } });
  });
});

describe('a drill of the whole stack', () => {
  const run = () => ({
    ...{ id: '20261120T060000Z-4f1c9a', journal: {} as never, ups: [], unproven: [] as string[] },
    ...{ signal: new AbortController().signal, say: () => undefined },
  });

  test('proves only a part without a smoke test', async () => {
    const stack = run();
    const result = await runSmokeTests(bench.deps(), [], stack);
    expect(result).toMatchObject({ status: 'unproven', checks: [] });
    expect(result.summary).toBeUndefined();
    expect(stack.unproven).toEqual([expect.stringMatching(/^no smoke test was run: /)]);
  });

  test('says nothing of tests that passed if one failed', async () => {
    const hook = { argv: ['true'] } as never;
    const smoke = { service: 'web', containerId: 'c', containerName: 'shop-web-1', hook };
    const result = await runSmokeTests(bench.deps(), [smoke], run());
    expect(result).toMatchObject({ status: 'failed', checks: [{ of: 'web', result: 'failed' }] });
    expect(result.summary).toBeUndefined();
  });
});

/** An engine whose containers run commands: each ends with the status that a test sets. */
function runningEngine(status: (argv: string) => { exitCode: number; stdout?: string }) {
  const created: { memory?: number }[] = [];
  const commands: string[] = [];
  const details = { mounts: [], networks: {}, env: {}, user: '', imageId: 'app', name: 'shop-web-1' };
  const engine = {
    inspectContainer: async () => ({ ...details, running: true }),
    inspectImage: async () => ({ labels: {} }),
    createContainer: async (_: string, spec: { HostConfig: { Memory?: number } }) => {
      created.push({ ...(spec.HostConfig.Memory === undefined ? {} : { memory: spec.HostConfig.Memory }) });
      return { id: 'helper', warnings: [] };
    },
    startContainer: async () => undefined,
    removeContainer: async () => undefined,
    execCreate: async (id: string, { argv }: { argv: string[] }) => `${commands.push(`${id} ${argv.join(' ')}`) - 1}`,
    execStart: async (id: string) => {
      const socket = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
      const { stdout } = status(commands[Number(id)] ?? '');
      if (stdout !== undefined) socket.push(frame(1, stdout));
      socket.push(null);
      return socket;
    },
    execInspect: async (id: string) => ({ running: false, exitCode: status(commands[Number(id)] ?? '').exitCode }),
  };
  return { engine, created };
}

describe('the memory of a smoke test', () => {
  const hook = { argv: ['./check'] } as never;
  const web = { service: 'web', containerId: 'c', containerName: 'shop-web-1', dependsOn: ['db'] };
  const run = (ups: unknown[] = []) => ({
    ...{ id: '20261120T060000Z-4f1c9a', journal: { record: async () => undefined } as never, ups: ups as never },
    ...{ unproven: [] as string[], signal: new AbortController().signal, say: () => undefined },
  });
  const killed = (container: string) => (command: string) => {
    if (!command.includes('memory.events')) return { exitCode: command.includes('./check') ? 137 : 0 };
    return { exitCode: 0, stdout: command.startsWith(container) ? 'oom_kill 1\n' : 'oom_kill 0\n' };
  };
  const server = { planned: { service: 'db', containerId: 'db' }, data: { kind: 'server', container: 'restored' } };

  test.each([
    ['helper', 'unproven'],
    ['restored', 'unproven'],
    ['other', 'failed'],
  ])('that is killed in %s leaves the stack %s', async (container, status) => {
    const { engine } = runningEngine(killed(container));
    const stack = run([server]);
    const deps = bench.deps({ engine, agent: { engine, id: 'a1' } } as never);
    const result = await runSmokeTests(deps, [{ ...web, hook }], stack);
    expect(result).toMatchObject({ status, checks: [{ of: 'web', result: status === 'failed' ? status : 'skipped' }] });
    expect(result.summary).toBeUndefined();
    expect(stack.unproven).toHaveLength(status === 'failed' ? 0 : 1);
  });

  test('is not shared with the restored servers', async () => {
    const { engine, created } = runningEngine(() => ({ exitCode: 0 }));
    const servers = ['db.postgres', 'other.postgres'].map((name) => ({ name, kind: 'postgres', ...web }));
    const plan = async () => ({ sources: servers, hooks: [{ ...web, drillHealth: hook }] });
    const deps = bench.deps({ engine, agent: { engine, id: 'a1' }, plan } as never);
    const report = await drill(deps, bench.request({ stack: true }));
    expect(statuses(report)).toMatchObject({ stack: 'ok' });
    expect(created).toEqual([{ memory: 2 ** 31 }]);
  });
});

describe('the evidence of a drill', () => {
  const early = AbortSignal.abort(new LifeboatError('INTERRUPTED', 'the next backup is due'));

  test('says what was asked for, if it is not the newest snapshot of everything', async () => {
    bench.sources = ['web.media'];
    const plain = await drill(bench.deps(), bench.request({ signal: early }));
    expect(plain.asked).toBeUndefined();
    const elsewhere = bench.deps({ otherRepository: true, now: later });
    const asked = { sources: ['web.media'], stack: true, signal: early };
    const report = await drill(elsewhere, bench.request(asked));
    expect(report.asked).toEqual({ sources: ['web.media'], from: 'main', stack: true });
    expect(askedOf(bench.deps(), bench.request({ snapshot: '2026' }))).toEqual({ snapshot: '2026' });
    const aim = { target: { lsn: '0/1A2B3C' } } as never;
    expect(askedOf(bench.deps(), bench.request({ aim }))).toEqual({ at: 'position 0/1A2B3C' });
    const { drills } = await readDrills(await bench.main());
    expect(drills.map((one) => one.report.asked)).toEqual([undefined, report.asked]);
  });

  test('and its report come before the end of its journal, so that a kill in between is noticed', async () => {
    const open: number[] = [];
    const look = () => open.push(readdirSync(bench.copies.at('journals')).length);
    bench.copies.mainFault = (call, key) => {
      if (call === 'put' && key.includes('/drills/')) look();
    };
    bench.sources = ['web.media'];
    const dispatcher = { emit: () => undefined, flush: async () => void look() };
    await drill(bench.deps({ dispatcher }), bench.request({ signal: early }));
    expect(open).toEqual([1, 1]);
    expect(readdirSync(bench.copies.at('journals'))).toEqual([]);
  });

  test('must be stored, or the drill has proved nothing that anybody can show', async () => {
    const report: DrillReport = {
      ...{ id: '20261120T060000Z-4f1c9a', project: 'shop', trigger: 'manual', status: 'ok', agentVersion: '1.2.3' },
      ...{ start: '2026-11-20T06:00:00.000Z', end: '2026-11-20T06:00:01.000Z', results: [], unproven: [] },
    };
    bench.copies.mainFault = (call, key) => {
      if (call === 'put' && key.includes('/drills/')) throw new LifeboatError('DEST_FULL', 'it is full');
    };
    await conclude(bench.deps(), report, () => bench.main());
    expect(report).toMatchObject({ status: 'unproven', unproven: [expect.stringContaining('it is full')] });
    expect(bench.events).toMatchObject([{ type: 'drill-finished', report: { status: 'unproven' } }]);
  });
});

const later = () => new Date('2026-11-20T07:00:00.000Z');

describe('the targets of a source', () => {
  const plan = [
    { name: 'db.postgres', kind: 'postgres', rpoMs: 60_000, rtoMs: 3_600_000 },
    { name: 'db.postgres.base', kind: 'base', server: 'db.postgres' },
    { name: 'web.media', kind: 'volume', rpoMs: 86_400_000, rtoMs: 60_000 },
    { name: 'config', kind: 'files' },
  ] as PlannedSource[];
  const good = { status: 'ok', ageMs: 3_600_000, restoreMs: 90_000 };
  const judge = (source: string, over: Partial<DrillResult> = {}, asked: DrillAsked = {}) =>
    judgeTargets({ source, ...good, ...over } as DrillResult, plan, asked);

  test('are compared with what was measured', () => {
    const rpo = { targetMs: 86_400_000, met: true };
    expect(judge('web.media')).toEqual({ rpo, rto: { targetMs: 60_000, met: false } });
    expect(judge('config')).toEqual({});
    expect(judge('gone')).toEqual({});
  });

  test('are not judged by a failure, a share or a chosen snapshot', () => {
    const unknown = { rpo: { met: null }, rto: { met: null } };
    expect(judge('web.media', { status: 'failed' })).toMatchObject(unknown);
    expect(judge('web.media', { share: 0.1 })).toMatchObject({ rpo: { met: true }, rto: { met: null } });
    expect(judge('web.media', {}, { snapshot: '2026' })).toMatchObject({ rpo: { met: null }, rto: { met: false } });
  });

  test('of a server with its write-ahead log are about that, and not about its last snapshot', () => {
    const rto = { targetMs: 3_600_000, met: true };
    expect(judge('db.postgres')).toEqual({ rto });
    expect(judge('db.postgres.base', { ageMs: 30_000 })).toEqual({ rpo: { targetMs: 60_000, met: true }, rto });
    expect(judge('db.postgres', { ageMs: 30_000 }, { at: 'latest' })).toEqual({
      rpo: { targetMs: 60_000, met: true },
      rto,
    });
  });
});
