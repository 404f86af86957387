import { beforeEach, describe, expect, test, vi } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import type { EventsOptions } from '../../src/docker/engine.ts';
import { type FindStarted, type Hold, withHold } from '../../src/run/hold.ts';
import type { ContainerRef, JournalEntry } from '../../src/run/journal.ts';
import { type HoldDeps, openHolds, patienceOf, releaseHolds } from '../../src/run/release.ts';
import { FakeEngine } from './fake-engine.ts';

const container: ContainerRef = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };
/** as the engine reports for a container that was created and never started */
const NEVER = '0001-01-01T00:00:00Z';
const MONDAY = '2026-11-16T03:00:00.123456789Z';
const TUESDAY = '2026-11-17T03:00:00.123456789Z';
const away = () => new LifeboatError('ENGINE_UNREACHABLE', 'away');

let fake: FakeEngine;
let journal: JournalEntry[];
let deps: HoldDeps;
const signal = new AbortController().signal;

beforeEach(() => {
  fake = new FakeEngine();
  fake.containers.set('c1', { running: true, autoRemove: false, startedAt: MONDAY });
  journal = [];
  deps = {
    engine: fake.engine,
    patienceMs: 3000,
    log: silentLog,
    record(entry) {
      journal.push(entry);
      fake.done.push(`record ${entry.type}`);
    },
  };
});

const held: Hold = { container, stop: [container], pre: { argv: ['freeze'] }, post: { argv: ['thaw'] } };
const work = async () => {
  fake.done.push('work');
  return 'result';
};

describe('a hold', () => {
  test('records every step before it, and undoes all of them', async () => {
    expect(await withHold(held, deps, signal, work)).toBe('result');
    expect(fake.done).toEqual([
      ...['record hook', 'exec c1 freeze', 'record pre', 'record stop', 'stop c1 within 10 s'],
      'work',
      ...['start c1', 'record started', 'exec c1 thaw', 'record post', 'record hook-done'],
    ]);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container has the stop timeout that it was created with', async () => {
    fake.containers.get('c1')!.stopTimeout = 300;
    await withHold({ container, stop: [container] }, deps, signal, work);
    expect(fake.done).toContain('stop c1 within 300 s');
  });

  test('a container that is not running stays unchanged', async () => {
    fake.containers.get('c1')!.running = false;
    await withHold(held, deps, signal, work);
    expect(fake.done).toEqual(['work']);
  });

  describe('over a paused container', () => {
    const stop: Hold = { container, stop: [container] };
    beforeEach(() => {
      fake.containers.get('c1')!.paused = true;
    });

    test('leaves it paused with a warning, and stops the others', async () => {
      fake.containers.set('c2', { running: true, autoRemove: false, startedAt: MONDAY });
      const both: Hold = { container, stop: [container, { ...container, id: 'c2', name: 'shop-web-2' }] };
      const warnings = await withHold(both, deps, signal, async (warnings) => warnings);
      expect(warnings).toEqual([expect.stringMatching(/^shop-web-1 is paused, so it was neither stopped nor started/)]);
      expect(fake.done).toEqual(['record stop', 'stop c2 within 10 s', 'start c2', 'record started']);
    });

    test('reports a container that was unpaused during the work', async () => {
      const ask = async (_: string[], started: FindStarted) => {
        expect(await started(['c1'])).toBeUndefined();
        fake.containers.get('c1')!.paused = false;
        return started(['c1']);
      };
      const why = await withHold(stop, deps, signal, ask);
      expect(why).toMatchObject({
        code: 'HOOK_FAILED',
        message: 'shop-web-1 was unpaused while its volumes were read',
      });
    });

    test('fails first if hooks have to run in it, or if the work would replace its data', async () => {
      const hooks = withHold({ ...held, stop: [] }, deps, signal, work);
      await expect(hooks).rejects.toMatchObject({
        code: 'HOOK_FAILED',
        hint: expect.stringContaining('docker unpause'),
      });
      const restore = withHold({ ...stop, refusePaused: true }, deps, signal, work);
      await expect(restore).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
      expect(fake.done).toEqual([]);
    });
  });

  test('nothing is started after a failure that leaves the start to the recovery', async () => {
    const leftHeld = (error: unknown) => error === 'half';
    const half = withHold({ container, stop: [container], leftHeld }, deps, signal, () => Promise.reject('half'));
    await expect(half).rejects.toBe('half');
    expect(fake.done).not.toContain('start c1');
    await releaseHolds(journal, deps);
    expect(fake.done).toContain('start c1');
    const whole = withHold({ container, stop: [container], leftHeld }, deps, signal, () => Promise.reject('whole'));
    await expect(whole).rejects.toBe('whole');
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container that a stop would remove is refused first', async () => {
    fake.containers.get('c1')!.autoRemove = true;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(fake.done).toEqual([]);
  });

  test('failed work is undone too, and its error is reported', async () => {
    const failing = withHold(held, deps, signal, () => Promise.reject(new Error('mine')));
    await expect(failing).rejects.toThrow('mine');
    expect(fake.done.slice(-5)).toEqual([
      'start c1',
      'record started',
      'exec c1 thaw',
      'record post',
      'record hook-done',
    ]);
  });

  test('after a failed pre hook the container is not stopped; post still runs, and nothing is started', async () => {
    fake.statuses.freeze = 1;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(fake.done).toEqual([
      'record hook',
      'exec c1 freeze',
      'record pre',
      'exec c1 thaw',
      'record post',
      'record hook-done',
    ]);
  });

  test('a stop with an unknown result counts as done', async () => {
    fake.failures.set('stop', away());
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
    expect(fake.done).toContain('start c1');
    expect(fake.done).not.toContain('work');
  });

  test('a stop whose call timed out continues in the engine, and is waited for', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date', 'performance'] });
    try {
      fake.engine.stopContainer = async (id) => {
        setTimeout(() => {
          fake.containers.get(id)!.running = false;
        }, 90_000);
        await new Promise((resolve) => setTimeout(resolve, 60_000));
        throw away();
      };
      fake.containers.get('c1')!.stopTimeout = 100;
      const ended = withHold({ container, stop: [container] }, deps, signal, work);
      await vi.advanceTimersByTimeAsync(89_000);
      expect(fake.done).not.toContain('work');
      await vi.advanceTimersByTimeAsync(3000);
      expect(await ended).toBe('result');
      expect(fake.done).toEqual(['record stop', 'work', 'start c1', 'record started']);
    } finally {
      vi.useRealTimers();
    }
  });

  test('a step whose journal entry cannot be written is not done', async () => {
    const full = {
      ...deps,
      record: () => {
        throw new Error('disk full');
      },
    };
    await expect(withHold(held, full, signal, work)).rejects.toThrow('disk full');
    expect(fake.done).toEqual([]);
  });

  test('a step that cannot be undone is reported, and stays open in the journal', async () => {
    fake.failures.set('start', away());
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
    expect(openHolds(journal)).toMatchObject([{ container, stop: { type: 'stop' }, post: { argv: ['thaw'] } }]);

    fake.failures.clear();
    fake.done = [];
    expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
    expect(fake.done).toEqual(['start c1', 'record started', 'exec c1 thaw', 'record post', 'record hook-done']);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a post hook that ran and failed is reported once and not repeated', async () => {
    fake.statuses.thaw = 3;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container that was recreated meanwhile is the one that is started', async () => {
    await withHold(held, deps, signal, async () => {
      fake.containers.delete('c1');
      fake.containers.set('c2', { running: false, autoRemove: false, startedAt: NEVER });
    });
    expect(fake.done.slice(-5)).toEqual([
      'start c2',
      'record started',
      'exec c2 thaw',
      'record post',
      'record hook-done',
    ]);
  });

  test.each([[[]], [['c2', 'c3']]])(
    'a container that is gone, with %j in its place, is not tried again',
    async (others) => {
      fake.containers.clear();
      for (const id of others) fake.containers.set(id, { running: false, autoRemove: false, startedAt: MONDAY });
      const entries: JournalEntry[] = [
        { type: 'hook', container, post: { argv: ['thaw'] } },
        { type: 'stop', container },
      ];
      const { failures, again } = await releaseHolds(entries, deps);
      expect({ failures: failures.length, again }).toEqual({ failures: 1, again: false });
      expect(fake.done).toEqual(['record started', 'record hook-done']);
    },
  );

  test('a container that cannot be released does not block the next one', async () => {
    const second = { ...container, id: 'c2' };
    fake.containers.set('c2', { running: false, autoRemove: false, startedAt: MONDAY });
    fake.failures.set('exec', away());
    const { again } = await releaseHolds(
      [
        { type: 'hook', container, post: { argv: ['thaw'] } },
        { type: 'stop', container: second },
      ],
      deps,
    );
    expect(again).toBe(true);
    expect(fake.done).toEqual(['start c2', 'record started']);
  });

  test('a container of another project is searched for there', async () => {
    const elsewhere = { ...container, project: 'blog' };
    await withHold({ container: elsewhere, stop: [elsewhere] }, deps, signal, async () => {
      fake.containers.delete('c1');
      fake.containers.set('c2', { running: false, autoRemove: false, startedAt: NEVER });
    });
    expect(fake.asked).toEqual(['com.docker.compose.project=blog', 'com.docker.compose.service=web']);
    expect(fake.done).toContain('start c2');
  });
});

describe('a decision of a user about a container while it was held', () => {
  const agent = { id: 'agent', project: 'shop', service: 'lifeboat' };
  const stopped = { container, stop: [container] };
  const starts = () => fake.done.filter((step) => step.startsWith('start'));
  const asked = () => fake.containers.get('c1')!;
  beforeEach(() => {
    deps.agent = agent;
  });

  test.each([
    ['started', true],
    ['started and stopped again', false],
  ])('is respected: it was %s', async (_, running) => {
    await withHold(stopped, deps, signal, async () => Object.assign(asked(), { startedAt: TUESDAY, running }));
    expect(starts()).toEqual([]);
    expect(openHolds(journal)).toEqual([]);
    expect(asked().running).toBe(running);
  });

  test.each([
    [true, 'was started while'],
    [false, 'is stopped now'],
  ])('is reported to a backup that needed it stopped (it runs: %s)', async (running, message) => {
    const start = async (_: string[], started: FindStarted) => {
      const before = await started(['c1']);
      Object.assign(asked(), { startedAt: TUESDAY, running });
      return { before, other: await started(['c2']), after: await started(['c1']) };
    };
    expect(await withHold(stopped, deps, signal, start)).toMatchObject({
      ...{ before: undefined, other: undefined },
      after: { code: 'HOOK_FAILED', message: expect.stringContaining(message) },
    });
  });

  test('does not include actions of its own pre hook: a container that restarted meanwhile is started again', async () => {
    const execStart = fake.engine.execStart;
    fake.engine.execStart = async (...options) => {
      asked().startedAt = TUESDAY;
      return execStart(...options);
    };
    const begin = async (_: string[], started: FindStarted) => started(['c1']);
    expect(await withHold({ ...stopped, pre: { argv: ['freeze'] } }, deps, signal, begin)).toBeUndefined();
    expect(starts()).toEqual(['start c1']);
    expect(asked().running).toBe(true);
  });

  test.each([
    ['stopped too, during the stop by the run', '15', 1, false],
    ['killed before its stop timeout', '9', 2, false],
    ['killed by the engine, after its stop timeout', '9', 10, true],
    ['signalled to read its settings again', '1', 1, true],
  ])('a container that was %s', async (_, other, seconds, startsAgain) => {
    await withHold(stopped, deps, signal, async () => {
      fake.remember('kill', 'c1', { signal: other }, Date.now() / 1000 + seconds);
    });
    expect(starts()).toEqual(startsAgain ? ['start c1'] : []);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container that was stopped too, on a host so busy that the engine forgets it', async () => {
    // An earlier crash does not end the watch.
    fake.remember('die', 'c1');
    fake.whileStopping = (id) => fake.remember('kill', id, { signal: '15' });
    await withHold(stopped, deps, signal, async () => {
      fake.remembered = [];
    });
    expect(starts()).toEqual([]);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a run that ends while it begins to listen stops nothing', async () => {
    const run = new AbortController();
    const { events } = fake.engine;
    Object.assign(fake.engine, {
      events: async (options: EventsOptions) => {
        run.abort(new Error('over'));
        return events(options);
      },
    });
    await expect(withHold(stopped, deps, run.signal, async () => {})).rejects.toThrow('over');
    expect(fake.done).toEqual([]);
    expect(openHolds(journal)).toEqual([]);
  });

  test.each([
    ['ends on the stop signal', undefined, []],
    ['is killed after its stop timeout', undefined, ['9']],
    ['has five minutes to end', 300, []],
  ])('a stop before its last start does not count: a container that %s is held twice', async (_, stopTimeout, then) => {
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      if (stopTimeout) asked().stopTimeout = stopTimeout;
      const pass = (ms: number) => vi.setSystemTime(Date.now() + ms);
      for (const _hold of [1, 2, 3]) {
        await withHold(stopped, deps, signal, async () => {
          pass(10_000);
          for (const signal of then) fake.remember('kill', 'c1', { signal });
          pass(500);
        });
        pass(500);
      }
      expect(starts()).toEqual(['start c1', 'start c1', 'start c1']);
      // Like `docker compose restart`.
      fake.remember('kill', 'c1', { signal: '15' });
      pass(500);
      asked().startedAt = new Date().toISOString();
      pass(500);
      await withHold(stopped, deps, signal, async () => {});
      expect(starts()).toHaveLength(4);
    } finally {
      vi.useRealTimers();
    }
  });

  const kill = (id: string, seconds = 0) => fake.remember('kill', id, { signal: '15' }, Date.now() / 1000 + seconds);

  test.each([
    ['stopped alone', ['agent'], []],
    ['not stopped, but another service is', ['db'], []],
    ['recreated with another service', ['agent', 'db'], ['lifeboat']],
  ])('when the agent is %s, it is started', async (_, killed, made) => {
    await withHold(stopped, deps, signal, async () => {
      for (const service of made) fake.remember('create', 'new', { 'com.docker.compose.service': service });
      for (const id of killed) kill(id);
    });
    expect(starts()).toEqual(['start c1']);
  });

  describe('when the agent and another service are stopped', () => {
    const other = { autoRemove: false, startedAt: MONDAY };
    beforeEach(async () => {
      fake.containers.set('agent', { ...other, running: true });
      fake.containers.set('db', { ...other, running: true });
      await withHold({ ...stopped, post: { argv: ['thaw'] } }, deps, signal, async () =>
        ['agent', 'db'].map((id) => kill(id)),
      );
    });
    /** Starts the agent again after some seconds. The engine forgets earlier events. */
    const back = (seconds = 0) => {
      fake.remembered = [];
      fake.containers.get('agent')!.startedAt = new Date(Date.now() + seconds * 1000).toISOString();
    };
    /** Returns the actions of the agent at its next check. */
    const look = async () => {
      await releaseHolds(journal, deps);
      return { starts: starts(), open: openHolds(journal).length };
    };

    test('nothing is decided before the agent is back', async () => {
      expect(await look()).toEqual({ starts: [], open: 1 });
      expect(fake.done).not.toContain('exec c1 thaw');
      expect(fake.done.filter((step) => step === 'record project-stop')).toHaveLength(1);
    });

    test('the container is started if the other one runs again, as after a restart of both', async () => {
      back();
      expect(await look()).toEqual({ starts: ['start c1'], open: 0 });
      expect(fake.done).toContain('exec c1 thaw');
    });

    test('the container is started if a third one was not stopped', async () => {
      fake.containers.get('db')!.running = false;
      fake.containers.set('cache', { ...other, running: true });
      back();
      expect(await look()).toEqual({ starts: ['start c1'], open: 0 });
    });

    test('the others have some seconds to come back', async () => {
      fake.containers.get('db')!.running = false;
      back();
      expect(await look()).toEqual({ starts: [], open: 1 });
      fake.containers.get('db')!.running = true;
      expect(await look()).toEqual({ starts: ['start c1'], open: 0 });
    });

    test('it stays stopped if only the agent is started again', async () => {
      fake.containers.get('db')!.running = false;
      back(1);
      vi.useFakeTimers({ toFake: ['Date'] });
      try {
        vi.setSystemTime(Date.now() + 17_000);
        // Its `post` runs when somebody starts it.
        expect(await look()).toEqual({ starts: [], open: 1 });
        expect(openHolds(journal)).toMatchObject([{ post: { argv: ['thaw'] } }]);
        fake.containers.get('c1')!.running = true;
        expect(await look()).toEqual({ starts: [], open: 0 });
        expect(fake.done).toContain('exec c1 thaw');
      } finally {
        vi.useRealTimers();
      }
    });
  });

  test('a recreated and stopped container stays stopped; one that was only created is started', async () => {
    for (const startedAt of ['2026-11-20T03:00:00Z', '0001-01-01T00:00:00Z']) {
      fake.containers.clear();
      fake.containers.set('c1', { running: true, autoRemove: false, startedAt: MONDAY });
      fake.done = [];
      await withHold(stopped, deps, signal, async () => {
        fake.containers.clear();
        fake.containers.set('c2', { running: false, autoRemove: false, startedAt });
      });
      expect(starts()).toEqual(startedAt.startsWith('0001') ? ['start c2'] : []);
    }
  });
});

describe('several containers of a service', () => {
  const second: ContainerRef = { ...container, id: 'c2', name: 'shop-web-2' };
  const both: Hold = { container, stop: [container, second] };
  beforeEach(() => fake.containers.set('c2', { running: true, autoRemove: false, startedAt: MONDAY }));

  test('are all recorded, stopped, and started again', async () => {
    await withHold(both, deps, signal, work);
    expect(fake.done).toEqual([
      ...['record stop', 'stop c1 within 10 s', 'record stop', 'stop c2 within 10 s', 'work'],
      ...['start c1', 'record started', 'start c2', 'record started'],
    ]);
  });

  test('one that is not running stays unchanged', async () => {
    fake.containers.get('c1')!.running = false;
    await withHold(both, deps, signal, work);
    expect(fake.done).toEqual(['record stop', 'stop c2 within 10 s', 'work', 'start c2', 'record started']);
  });

  test('if one does not stop, none stays stopped', async () => {
    fake.engine.stopContainer = async (id) => {
      if (id === 'c1') throw away();
      fake.containers.get(id)!.running = false;
    };
    await expect(withHold(both, deps, signal, work)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
    expect(fake.done).not.toContain('work');
    expect(fake.containers.get('c2')!.running).toBe(true);
  });
});

describe('the stop of a container', () => {
  test.each([
    [137, ['shop-web-1 did not stop within 10 s and was killed, so its files may not be consistent']],
    [143, []],
    [0, []],
  ])('status %i causes the warnings %j', async (exitCode, expected) => {
    fake.containers.get('c1')!.exitCode = exitCode;
    const told = await withHold({ container, stop: [container] }, deps, signal, async (warnings) => warnings);
    expect(told).toEqual(expected.map((start) => expect.stringContaining(start)));
  });

  test('a run that has to end waits seconds for a slow stop, and leaves the start to the next try', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    try {
      fake.slow = true;
      fake.containers.get('c1')!.stopTimeout = 600;
      const run = new AbortController();
      const ending = withHold({ container, stop: [container] }, deps, run.signal, work);
      const outcome = expect(ending).rejects.toMatchObject({ code: 'INTERRUPTED' });
      await vi.advanceTimersByTimeAsync(60_000);
      run.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
      await vi.advanceTimersByTimeAsync(3000);
      await outcome;
      expect(fake.done).not.toContain('work');

      // The engine is still stopping it: a start now would have no effect.
      expect(openHolds(journal)).toHaveLength(1);
      expect(await releaseHolds(journal, deps)).toMatchObject({ again: true });
      fake.containers.get('c1')!.running = false;
      expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
      expect(fake.containers.get('c1')!.running).toBe(true);
      expect(openHolds(journal)).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test('a stop that ends in time is followed by a start before the run ends', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
    try {
      deps.patienceMs = 20_000;
      fake.engine.stopContainer = async (id, options) => {
        await new Promise((resolve, reject) => {
          setTimeout(resolve, 19_000);
          options?.signal?.addEventListener('abort', () => reject(options.signal?.reason));
        });
        fake.containers.get(id)!.running = false;
      };
      const run = new AbortController();
      const ending = withHold({ container, stop: [container] }, deps, run.signal, work);
      const outcome = expect(ending).rejects.toThrow('asked to stop');
      await vi.advanceTimersByTimeAsync(1000);
      run.abort(new LifeboatError('INTERRUPTED', 'the run was asked to stop'));
      await vi.advanceTimersByTimeAsync(18_000);
      await outcome;
      expect(fake.done).toEqual(['record stop', 'start c1', 'record started']);
      expect(openHolds(journal)).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
  });

  test.each([
    [30, 20_000],
    [20, 10_000],
    [undefined, 3000],
    [0, 3000],
  ])('with %s s to stop itself, the agent waits %i ms', (grace, expected) => {
    expect(patienceOf(grace)).toBe(expected);
  });

  test.each(['restarted since', 'still running long after its stop timeout'])(
    'a container that is %s counts as stopped',
    async (how) => {
      const until = how === 'restarted since' ? '2999-01-01T00:00:00Z' : '2026-01-01T00:00:00Z';
      const startedAt = how === 'restarted since' ? TUESDAY : MONDAY;
      expect(await releaseHolds([{ type: 'stop', container, startedAt, until }], deps)).toEqual({
        failures: [],
        again: false,
      });
      expect(journal).toEqual([{ type: 'started', container }]);
    },
  );

  test('a run that was interrupted before stops nothing', async () => {
    const stopping = withHold({ container, stop: [container] }, deps, AbortSignal.abort(new Error('over')), work);
    await expect(stopping).rejects.toThrow('over');
    expect(fake.done).toEqual([]);
  });
});

describe('a run that is interrupted while pre runs', () => {
  const interrupted = new LifeboatError('INTERRUPTED', 'the run was asked to stop');

  /** Begins a run, and interrupts it when `pre` has begun. */
  async function interrupt(): Promise<void> {
    const run = new AbortController();
    deps.record = (entry) => {
      journal.push(entry);
      if (entry.type === 'pre') setTimeout(() => run.abort(interrupted));
    };
    await expect(withHold({ ...held, stop: [] }, deps, run.signal, work)).rejects.toMatchObject({
      code: 'INTERRUPTED',
    });
  }

  test('waits for its end, and runs post after it', async () => {
    deps.patienceMs = 30_000;
    fake.lasting.freeze = 1;
    await interrupt();
    expect(fake.lasting.freeze).toBeLessThan(0);
    expect(fake.done).toEqual(['exec c1 freeze', 'exec c1 thaw']);
    expect(openHolds(journal)).toEqual([]);
  });

  test('leaves post to the next try if pre takes too long', async () => {
    deps.patienceMs = 0;
    fake.lasting.freeze = 1;
    await interrupt();
    expect(fake.done).toEqual(['exec c1 freeze']);
    expect(openHolds(journal)).toMatchObject([{ post: { argv: ['thaw'] } }]);
    expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
    expect(fake.done).toEqual(['exec c1 freeze', 'exec c1 thaw']);
  });

  test('the wait for a hanging hook is limited', async () => {
    fake.lasting.freeze = 100;
    const over: JournalEntry[] = [
      { type: 'hook', container, post: { argv: ['thaw'] } },
      { type: 'pre', container, exec: 'freeze', until: '2026-01-01T00:00:00Z' },
    ];
    expect(await releaseHolds(over, deps)).toEqual({ failures: [], again: false });
    expect(fake.done).toContain('exec c1 thaw');
  });
});
