import { beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { type FindStarted, type Hold, withHold } from '../../src/run/hold.ts';
import type { ContainerRef, JournalEntry } from '../../src/run/journal.ts';
import { type HoldDeps, openHolds, releaseHolds } from '../../src/run/release.ts';
import { FakeEngine } from './fake-engine.ts';

const MONDAY = '2026-11-16T03:00:00.123456789Z';
const PROJECT = 'com.docker.compose.project';
const SERVICE = 'com.docker.compose.service';
const DEPENDS_ON = 'com.docker.compose.depends_on';

let fake: FakeEngine;
let journal: JournalEntry[];
let deps: HoldDeps;
let failures: string[];
const signal = new AbortController().signal;

beforeEach(() => {
  fake = new FakeEngine();
  journal = [];
  failures = [];
  deps = { engine: fake.engine, patienceMs: 3000, log: silentLog, record: (entry) => journal.push(entry) };
});

/** Adds a running container `name` of the service `name`. */
function run(name: string, more: Partial<Parameters<FakeEngine['containers']['set']>[1]> = {}): ContainerRef {
  const labels = { [PROJECT]: 'shop', [SERVICE]: name, ...more.labels };
  fake.containers.set(name, { running: true, autoRemove: false, startedAt: MONDAY, ...more, name, labels });
  return { id: name, name, project: 'shop', service: name };
}

const post = { argv: ['thaw'] };
const onFailure: NonNullable<Hold['onFailure']> = ({ container, error }) =>
  failures.push(`${container.name}: ${(error as Error).message}`);
const actions = () => fake.done.filter((step) => !step.startsWith('record')).map((step) => step.split(' within')[0]);
const idle = async () => undefined;

describe('containers that need each other', () => {
  test.each(['networkMode', 'ipcMode', 'pidMode'] as const)('stop and start in the order of %s', async (mode) => {
    const a = run('a', { [mode]: 'container:b' });
    const b = run('b');
    await withHold({ container: a, stop: [a, b] }, deps, signal, idle);
    expect(actions()).toEqual(['stop a', 'stop b', 'start b', 'start a']);
  });

  test('stop and start in the order of depends_on, also when a recovery starts them', async () => {
    const web = run('web', { labels: { [DEPENDS_ON]: 'cache:service_started:false' } });
    const cache = run('cache');
    fake.failures.set('start', new LifeboatError('ENGINE_UNREACHABLE', 'away'));
    await expect(withHold({ container: web, stop: [web, cache] }, deps, signal, idle)).rejects.toThrow('away; away');
    expect(actions()).toEqual(['stop web', 'stop cache']);
    fake.failures.clear();
    await releaseHolds(journal, deps);
    expect(actions().slice(2)).toEqual(['start cache', 'start web']);
  });

  test('an owner does not stop before its guest has stopped', async () => {
    const a = run('a', { networkMode: 'container:b' });
    const b = run('b');
    const { stopContainer } = fake.engine;
    fake.engine.stopContainer = async (id, options) => {
      if (id === 'a') throw new LifeboatError('ENGINE_REFUSED', 'it does not stop');
      return stopContainer(id, options);
    };
    const held = withHold({ container: b, stop: [b, a], onFailure }, deps, signal, idle);
    await expect(held).rejects.toThrow('it does not stop');
    expect(actions()).not.toContain('stop b');
  });

  test('in a circle do not block', async () => {
    const x = run('x', { labels: { [DEPENDS_ON]: 'y:service_started:false' } });
    const y = run('y', { labels: { [DEPENDS_ON]: 'x:service_started:false' } });
    await withHold({ container: x, stop: [x, y] }, deps, signal, idle);
    expect(actions()).toHaveLength(4);
  });
});

describe('a guest of a stopped container', () => {
  const warningsOf = async (stop: ContainerRef[], more: Partial<Hold> = {}) =>
    withHold({ container: stop[0]!, stop, ...more }, deps, signal, async (warnings) => warnings);

  test('stops and starts with it, and so do its own guests', async () => {
    const b = run('b');
    run('c', { networkMode: 'container:b' });
    run('d', { ipcMode: 'container:c', labels: { 'lifeboat.stop': 'true' } });
    run('apart', { networkMode: 'container:other' });
    run('ended', { networkMode: 'container:b', running: false });
    expect(await warningsOf([b])).toEqual([]);
    expect(actions()).toEqual(['stop d', 'stop c', 'stop b', 'start b', 'start c', 'start d']);
    expect(openHolds(journal)).toEqual([]);
  });

  test.each([
    ['its label forbids it', { labels: { 'lifeboat.stop': 'false' } }, 'its label is lifeboat.stop: "false"'],
    ['it is paused', { paused: true, state: 'paused' }, 'it is paused'],
    ['a stop would remove it', { autoRemove: true }, 'a stop would remove it'],
  ])('is named if %s', async (_, more, why) => {
    const b = run('b');
    run('c', { networkMode: 'container:b', ...more });
    expect(await warningsOf([b])).toEqual([
      `c uses the network of b and is not stopped with it, because ${why}; it may need a restart afterwards`,
    ]);
    expect(actions()).toEqual(['stop b', 'start b']);
  });

  test('is never the agent, nor a container that the work needs', async () => {
    const b = run('b');
    run('lifeboat', { networkMode: 'container:b' });
    run('db', { networkMode: 'container:b' });
    deps.agent = { id: 'lifeboat', project: 'shop', service: 'lifeboat' };
    const warnings = await warningsOf([b], { needed: ['db'] });
    expect(warnings).toHaveLength(2);
    expect(actions()).toEqual(['stop b', 'start b']);
  });
});

test('a run that is asked to stop before it holds anything leaves nothing to undo', async () => {
  const a = run('a');
  const stop = new AbortController();
  const { inspectContainer } = fake.engine;
  // The request comes while the run looks at the container.
  fake.engine.inspectContainer = async (id) => {
    stop.abort(new LifeboatError('INTERRUPTED', 'asked to stop'));
    return inspectContainer(id);
  };
  const hold = { container: a, stop: [], pre: { argv: ['freeze'] }, post, onFailure };
  await expect(withHold(hold, deps, stop.signal, idle)).rejects.toThrow('asked to stop');
  expect({ journal, failures, actions: actions() }).toEqual({ journal: [], failures: [], actions: [] });
});

describe('the commands after a backup', () => {
  test('run after all containers have started', async () => {
    const a = run('a');
    const b = run('b');
    await withHold({ container: a, stop: [a, b], post }, deps, signal, idle);
    expect(actions()).toEqual(['stop a', 'stop b', 'start a', 'start b', 'exec a thaw']);
  });

  test('do not run while the container of the same hold does not start, and run later', async () => {
    const a = run('a');
    const held = { container: a, stop: [a], post, onFailure };
    fake.failures.set('start', new LifeboatError('ENGINE_REFUSED', 'no'));
    await withHold(held, deps, signal, idle);
    expect(actions()).toEqual(['stop a']);
    fake.failures.clear();
    await releaseHolds(journal, deps);
    expect(actions()).toEqual(['stop a', 'start a', 'exec a thaw']);
  });

  test.each([
    ['does not run', { running: false }, { running: true }],
    ['is paused', { paused: true }, { paused: false }],
  ])('stay open while the container %s', async (why, before, after) => {
    const a = run('a');
    const change = async () => void Object.assign(fake.containers.get('a')!, before);
    await withHold({ container: a, stop: [], post, onFailure }, deps, signal, change);
    expect(failures).toEqual([`a: lifeboat.exec.post could not be run: a ${why}`]);
    expect(openHolds(journal)).toHaveLength(1);
    expect(await releaseHolds(journal, deps)).toMatchObject({ again: true });
    Object.assign(fake.containers.get('a')!, after);
    expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
    expect(actions()).toEqual(['exec a thaw']);
    expect(openHolds(journal)).toEqual([]);
  });

  test('stay open if the engine refuses the command because the container has just stopped', async () => {
    const a = run('a');
    const cause = Object.assign(new Error('is not running'), { statusCode: 409 });
    fake.failures.set('exec', new LifeboatError('ENGINE_REFUSED', 'is not running', { cause }));
    await withHold({ container: a, stop: [], post, onFailure }, deps, signal, idle);
    expect(failures).toHaveLength(1);
    expect(openHolds(journal)).toHaveLength(1);
  });

  test('stay open if a full spool prevents their start', async () => {
    const a = run('a');
    const full = new LifeboatError('SPOOL_FULL', 'the spool has no space left');
    const record = (entry: JournalEntry) => {
      if (entry.type === 'post') throw full;
      journal.push(entry);
    };
    await withHold({ container: a, stop: [], post, onFailure }, { ...deps, record }, signal, idle);
    expect(failures).toHaveLength(1);
    expect(openHolds(journal)).toHaveLength(1);
    expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
    expect(openHolds(journal)).toEqual([]);
  });

  test('all report their failure, also after a failed pre or a failed work', async () => {
    const a = run('a');
    fake.statuses = { freeze: 1, thaw: 3 };
    const hold = { container: a, stop: [], pre: { argv: ['freeze'] }, post, onFailure };
    await expect(withHold(hold, deps, signal, idle)).rejects.toThrow('lifeboat.exec.pre in a failed');
    expect(failures).toEqual(['a: lifeboat.exec.post in a failed']);
  });

  describe('of a run that has to end', () => {
    const over = new LifeboatError('INTERRUPTED', 'the run was asked to stop');

    /** Interrupts a run while its `post` runs. Returns when the hold has ended. */
    async function interrupt(patienceMs: number): Promise<void> {
      const a = run('a');
      const ending = new AbortController();
      deps.patienceMs = patienceMs;
      deps.record = (entry) => {
        journal.push(entry);
        if (entry.type === 'post') setTimeout(() => ending.abort(over));
      };
      await withHold({ container: a, stop: [], post, onFailure }, deps, ending.signal, idle);
    }

    test('are left to a recovery, which waits for their end and does not run them twice', async () => {
      fake.lasting.thaw = 1;
      await interrupt(10);
      expect(failures).toEqual(['a: the run was asked to stop']);
      expect(openHolds(journal)).toMatchObject([{ begun: { exec: 'thaw' } }]);
      expect(await releaseHolds(journal, { ...deps, patienceMs: 5000 })).toEqual({ failures: [], again: false });
      expect(actions()).toEqual(['exec a thaw']);
      expect(openHolds(journal)).toEqual([]);
    });

    test('stay open while they still run', async () => {
      fake.lasting.thaw = 1000;
      await interrupt(10);
      expect(await releaseHolds(journal, { ...deps, patienceMs: 0 })).toMatchObject({
        failures: [{ error: { code: 'INTERRUPTED', message: 'the command of lifeboat.exec.post in a still runs' } }],
        again: true,
      });
      expect(actions()).toEqual(['exec a thaw']);
    });

    test.each([
      [3, false, 1],
      [null, true, 2],
    ])('with status %s at their end', async (status, isAgain, runs) => {
      fake.lasting.thaw = 1;
      await interrupt(10);
      fake.lasting.thaw = 0;
      const statuses = [status, 0];
      fake.engine.execInspect = async () => ({ containerId: 'a', running: false, exitCode: statuses.shift() ?? null });
      const { failures: later } = await releaseHolds(journal, deps);
      expect(later).toHaveLength(isAgain ? 0 : 1);
      expect(actions()).toHaveLength(runs);
      expect(openHolds(journal)).toEqual([]);
    });
  });
});

describe('a container that was recreated in the meantime', () => {
  /** A deployment replaces the container `a`, by one that was created or that runs. */
  function deploy(id: string, more: object = {}): void {
    fake.containers.delete('a');
    run('a');
    const made = fake.containers.get('a')!;
    fake.containers.delete('a');
    fake.containers.set(id, { ...made, name: id, ...more });
  }

  test('is stopped, and its commands run in it', async () => {
    const a = run('a');
    deploy('a2');
    await withHold({ container: a, stop: [a], pre: { argv: ['freeze'] }, post }, deps, signal, idle);
    expect(actions()).toEqual(['exec a2 freeze', 'stop a2', 'start a2', 'exec a2 thaw']);
  });

  test('cannot write if it is gone', async () => {
    const a = run('a');
    fake.containers.clear();
    const started = async (_: string[], find: FindStarted) => find(['a']);
    expect(await withHold({ container: a, stop: [a], post }, deps, signal, started)).toBeUndefined();
    expect(actions()).toEqual([]);
  });

  test('is no container of docker compose run', async () => {
    const a = run('a');
    deploy('a2');
    fake.containers.set('once', {
      ...fake.containers.get('a2')!,
      labels: { [PROJECT]: 'shop', [SERVICE]: 'a', 'com.docker.compose.oneoff': 'True' },
    });
    await withHold({ container: a, stop: [a] }, deps, signal, idle);
    expect(actions()).toEqual(['stop a2', 'start a2']);
  });

  test('may have written if it was started during the work', async () => {
    const a = run('a');
    const started = async (_: string[], find: FindStarted) => {
      deploy('a2', { startedAt: '2026-11-18T03:00:00Z' });
      return find(['a']);
    };
    const why = await withHold({ container: a, stop: [a] }, deps, signal, started);
    expect(why).toMatchObject({ code: 'HOOK_FAILED', message: expect.stringContaining('a2 was started') });
  });
});

test('a command in a container that stays paused ends the wait, and names the pause', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const a = run('a');
    fake.lasting.freeze = 1;
    deps.record = (entry) => {
      journal.push(entry);
      if (entry.type === 'pre') fake.containers.get('a')!.paused = true;
    };
    const held = withHold({ container: a, stop: [], pre: { argv: ['freeze'] }, post, onFailure }, deps, signal, idle);
    const outcome = expect(held).rejects.toMatchObject({
      code: 'HOOK_FAILED',
      message: 'a is paused, so lifeboat.exec.pre cannot end',
      hint: expect.stringContaining('docker unpause a'),
    });
    await vi.waitFor(() => expect(journal.some(({ type }) => type === 'pre')).toBe(true));
    await vi.advanceTimersByTimeAsync(10_000);
    await vi.advanceTimersByTimeAsync(10_000);
    await outcome;
    expect(failures).toEqual(['a: lifeboat.exec.post could not be run: a is paused']);
    fake.containers.get('a')!.paused = false;
    await releaseHolds(journal, deps);
    expect(actions()).toEqual(['exec a freeze', 'exec a thaw']);
  } finally {
    vi.useRealTimers();
  }
});
