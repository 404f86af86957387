import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { createCapturer } from '../../src/backup/capture.ts';
import { captureAll } from '../../src/backup/capture-all.ts';
import type { BackupDeps, RunContext } from '../../src/backup/context.ts';
import type { Captured } from '../../src/backup/outcome.ts';
import { errorInfo, LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { PlannedSource, Problem } from '../../src/plan/model.ts';
import { streamOf } from '../../src/store/objects/objects.ts';
import { inMemory } from '../store/memory-destination.ts';

const INFO = '{"created":"2026-11-20T03:00:00.000Z","format":1,"id":"one"}';

/** Captures sources while the destination does not answer for `b`. Returns the captured sources and their outcomes. */
async function capture(isBack: boolean) {
  const begun: string[] = [];
  const gone = () => new LifeboatError('DEST_UNREACHABLE', 'it does not answer');
  const destination = inMemory('main', new Map([['lifeboat.json', INFO]]));
  const get: typeof destination.get = async () => {
    if (!isBack) throw gone();
    return streamOf(INFO);
  };
  const outcome = (name: string, error?: unknown) =>
    ({ report: { name, ...(error ? { error: errorInfo(error) } : {}) } }) as Captured;
  const deps = {
    dispatcher: { emit: () => undefined },
    capturer: () => ({
      capture: async ({ name }: PlannedSource) => {
        begun.push(name);
        return outcome(name, name === 'b' ? gone() : undefined);
      },
      failed: async ({ name }: PlannedSource, error: unknown) => outcome(name, error),
    }),
  } as unknown as BackupDeps;
  const context = {
    signal: new AbortController().signal,
    repository: { destination: { ...destination, get } },
  } as unknown as RunContext;
  const sources = ['a', 'b', 'c', 'd'].map((name) => ({ name, kind: 'files' }) as unknown as PlannedSource);
  const captured: Captured[] = [];
  await captureAll({ deps, context, sources, captured, problems: [] });
  return { begun, failed: captured.filter(({ report }) => report.error).map(({ report }) => report.name) };
}

test('if the destination is gone, no further source is read', async () => {
  expect(await capture(false)).toEqual({ begun: ['a', 'b'], failed: ['b', 'c', 'd'] });
});

test('if it is back, the other sources are stored', async () => {
  expect(await capture(true)).toEqual({ begun: ['a', 'b', 'c', 'd'], failed: ['b'] });
});

test('a volume whose container was started during the capture is partial, in the manifest too', async () => {
  let startedAt = 'monday';
  const ref = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };
  const engine = {
    inspectContainer: async () => ({ running: true, autoRemove: false, startedAt, labels: {} }),
    listContainers: async () => [],
    stopContainer: async () => undefined,
    startContainer: async () => undefined,
    events: async () => [],
  };
  const outcome = (name: string) =>
    ({ report: { name, status: 'ok', warnings: [] }, entry: { status: 'ok', warnings: [] } }) as unknown as Captured;
  const deps = {
    dispatcher: { emit: () => undefined },
    holdDeps: () => ({ engine, log: silentLog, record: () => undefined, patienceMs: 3000 }),
    capturer: () => ({
      capture: async ({ name }: PlannedSource) => {
        if (name === 'web.b') startedAt = 'tuesday';
        return outcome(name);
      },
    }),
  } as unknown as BackupDeps;
  const context = { signal: new AbortController().signal, log: silentLog, repository: {} } as unknown as RunContext;
  const source = { kind: 'volume', project: 'shop', service: 'web', containerId: 'c1', containerName: ref.name };
  const sources = ['web.a', 'web.b', 'web.c'].map(
    (name) => ({ ...source, name, stop: [{ id: 'c1', name: ref.name }] }) as unknown as PlannedSource,
  );
  const captured: Captured[] = [];
  const problems: Problem[] = [];
  await captureAll({ deps, context, sources, captured, problems });
  expect(captured.map(({ entry }) => entry.status)).toEqual(['ok', 'partial', 'partial']);
  expect(captured[1]).toMatchObject({
    report: { status: 'partial', error: { code: 'HOOK_FAILED', message: expect.stringContaining('was started') } },
    entry: { error: { code: 'HOOK_FAILED' } },
  });
  expect(problems).toEqual([]);
});

test('every failed command is a problem with its cause, also of a service without a source in the run', async () => {
  const engine = {
    exitLagMs: 0,
    inspectContainer: async () => ({ running: true, autoRemove: false, startedAt: 'monday', labels: {} }),
    execCreate: async (_: string, { argv }: { argv: string[] }) => argv[0],
    execStart: async () => new PassThrough().end(),
    execInspect: async (word: string) => ({ running: false, exitCode: word === 'freeze' ? 1 : 3 }),
  };
  const deps = {
    dispatcher: { emit: () => undefined },
    holdDeps: () => ({ engine, log: silentLog, record: () => undefined, patienceMs: 3000 }),
    capturer: () => ({
      capture: async ({ name }: PlannedSource) => ({ report: { name, status: 'ok' }, entry: {} }),
    }),
  } as unknown as BackupDeps;
  const context = { signal: new AbortController().signal, log: silentLog, repository: {} } as unknown as RunContext;
  const db = { kind: 'postgres', name: 'db.postgres', project: 'shop', service: 'db', containerId: 'c1' };
  const web = { project: 'shop', service: 'web', containerId: 'c2', containerName: 'shop-web-1', dependsOn: ['db'] };
  const services = [{ ...web, pre: { argv: ['freeze'] }, post: { argv: ['thaw'] } }];
  const captured: Captured[] = [];
  const problems: Problem[] = [];
  await captureAll({ deps, context, sources: [db as PlannedSource], services, captured, problems });
  expect(captured.map(({ report }) => report.status)).toEqual(['ok']);
  expect(problems.map(({ subject, message }) => `${subject}: ${message}`)).toEqual([
    expect.stringMatching(/^shop-web-1: lifeboat.exec.post in shop-web-1 failed: .* ended with status 3/),
    expect.stringMatching(/^shop-web-1: lifeboat.exec.pre in shop-web-1 failed: .* ended with status 1/),
  ]);
});

test('later sources learn what earlier ones have stored, but never while a service waits', async () => {
  const done: string[] = [];
  const deps = {
    dispatcher: { emit: () => undefined },
    capturer: () => ({
      capture: async ({ name }: PlannedSource) => {
        done.push(name);
        return { report: { name } } as Captured;
      },
      share: async () => void done.push('share'),
    }),
  } as unknown as BackupDeps;
  const context = { signal: new AbortController().signal } as unknown as RunContext;
  const plain = (name: string) => ({ name, kind: 'files' }) as unknown as PlannedSource;
  await captureAll({ deps, context, sources: [plain('a'), plain('b'), plain('c')], captured: [], problems: [] });
  expect(done.join(' ')).toMatch(/a share( share)* b share( share)* c$/);
});

test('packs of a source that fails after others may have used them stay', async () => {
  const removed: string[] = [];
  const file = path.join(mkdtempSync(path.join(tmpdir(), 'lifeboat-capture-')), 'journal');
  const pack = `shop/packs/web.media/aa/${'a'.repeat(32)}.zip`;
  const index = 'shop/snapshots/20261120T030000Z-4f1c9a/web.media.index.ndjson.zst';
  writeFileSync(file, [pack, index].map((key) => `${JSON.stringify({ type: 'object', key })}\n`).join(''));
  const fail = async (shared: string[]) => {
    removed.length = 0;
    const context = {
      ...{ snapshots: [], log: silentLog, signal: new AbortController().signal, journal: { file } },
      run: { id: '20261120T030000Z-4f1c9a', project: 'shop' },
      repository: { removeObjects: async (keys: string[]) => removed.push(...keys) },
      known: { shared: new Set(shared) },
    } as unknown as RunContext;
    await createCapturer({} as Parameters<typeof createCapturer>[0], context).failed(
      { name: 'web.media', kind: 'volume' },
      new Error('lost'),
    );
    return removed;
  };
  expect(await fail([])).toEqual([pack, index]);
  expect(await fail(['web.media'])).toEqual([index]);
  rmSync(path.dirname(file), { recursive: true });
});

test.each([
  ['removals at the destination hang', false],
  ['the source hangs', true],
])('containers of an interrupted run start although %s', async (_, hangs) => {
  const spool = mkdtempSync(path.join(tmpdir(), 'lifeboat-capture-'));
  const file = path.join(spool, 'journal');
  writeFileSync(file, '');
  const stop = new AbortController();
  const began: string[] = [];
  let running = true;
  const change: string[] = [];
  const engine = {
    inspectContainer: async () => ({ running, autoRemove: false, startedAt: 'monday', labels: {} }),
    listContainers: async () => [],
    stopContainer: async () => {
      running = false;
      change.push('stop');
    },
    startContainer: async () => {
      running = true;
      change.push('start');
    },
    events: async () => [],
  };
  const makeSource = ({ name }: PlannedSource) => ({
    capture: async () => {
      began.push(name);
      stop.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
      return hangs ? new Promise(() => undefined) : Promise.reject(stop.signal.reason);
    },
  });
  const context = {
    ...{ signal: stop.signal, log: silentLog, snapshots: [], journal: { file } },
    run: { id: '20261120T030000Z-4f1c9a', project: 'shop', trigger: 'manual' },
    repository: { removeObjects: () => new Promise(() => undefined) },
  } as unknown as RunContext;
  const capturing = { spool, makeSource, clear: async () => undefined };
  const deps = {
    dispatcher: { emit: () => undefined },
    holdDeps: () => ({ engine, log: silentLog, record: () => undefined, patienceMs: 20 }),
    capturer: () => createCapturer(capturing as unknown as Parameters<typeof createCapturer>[0], context),
  } as unknown as BackupDeps;
  const source = { kind: 'volume', project: 'shop', service: 'web', containerId: 'c1', containerName: 'shop-web-1' };
  const sources = ['web.a', 'web.b'].map(
    (name) => ({ ...source, name, stop: [{ id: 'c1', name: 'shop-web-1' }] }) as unknown as PlannedSource,
  );
  const captured: Captured[] = [];
  const problems: Problem[] = [];
  await captureAll({ deps, context, sources, captured, problems });
  expect({ change, began }).toEqual({ change: ['stop', 'start'], began: ['web.a'] });
  expect(captured.map(({ report }) => `${report.name} ${report.error?.code}`)).toEqual([
    'web.a INTERRUPTED',
    'web.b INTERRUPTED',
  ]);
  expect(problems).toEqual([]);
  rmSync(spool, { recursive: true });
});
