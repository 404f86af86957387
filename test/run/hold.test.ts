import { beforeEach, describe, expect, test } from 'vitest';
import type { Engine } from '../../src/docker/engine.ts';
import { LifeboatError } from '../../src/errors.ts';
import { type Hold, type HoldDeps, openHolds, releaseHolds, withHold } from '../../src/hold.ts';
import type { ContainerRef, JournalEntry } from '../../src/journal.ts';
import { silentLog } from '../../src/log.ts';

const container: ContainerRef = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };
const away = () => new LifeboatError('ENGINE_UNREACHABLE', 'away');

/** The few engine calls that a hold makes, over containers that are data. Records what was done, in order. */
class FakeEngine {
  containers = new Map<string, { running: boolean; autoRemove: boolean; stopTimeout?: number }>();
  done: string[] = [];
  /** thrown by the next call of that name */
  failures = new Map<string, unknown>();
  /** exit status of a hook, by its first word */
  statuses: Record<string, number> = {};

  private step(name: string): void {
    const failure = this.failures.get(name.split(' ')[0] ?? '');
    if (failure) throw failure;
    this.done.push(name);
  }

  readonly engine = {
    exitLagMs: 100,
    inspectContainer: async (id: string) => {
      const found = this.containers.get(id);
      if (found) return found;
      const cause = Object.assign(new Error('no such container'), { statusCode: 404 });
      throw new LifeboatError('ENGINE_REFUSED', 'no such container', { cause });
    },
    listContainers: async () => [...this.containers.keys()].map((id) => ({ id, name: `name of ${id}` })),
    stopContainer: async (id: string, { timeout }: { timeout: number }) => {
      this.step(`stop ${id} within ${timeout} s`);
      this.containers.get(id)!.running = false;
    },
    startContainer: async (id: string) => {
      this.step(`start ${id}`);
      this.containers.get(id)!.running = true;
    },
    execCreate: async (id: string, { argv }: { argv: string[] }) => {
      this.step(`exec ${id} ${argv.join(' ')}`);
      return argv[0] ?? '';
    },
    execStart: async () => {
      const { PassThrough } = await import('node:stream');
      return new PassThrough().end();
    },
    execInspect: async (word: string) => ({ containerId: 'c1', running: false, exitCode: this.statuses[word] ?? 0 }),
  } as unknown as Engine;
}

let fake: FakeEngine;
let journal: JournalEntry[];
let deps: HoldDeps;
const signal = new AbortController().signal;

beforeEach(() => {
  fake = new FakeEngine();
  fake.containers.set('c1', { running: true, autoRemove: false });
  journal = [];
  deps = {
    engine: fake.engine,
    log: silentLog,
    record(entry) {
      journal.push(entry);
      fake.done.push(`record ${entry.type}`);
    },
  };
});

const held: Hold = { container, stop: true, pre: ['freeze'], post: ['thaw'] };
const work = async () => {
  fake.done.push('work');
  return 'result';
};

describe('a hold', () => {
  test('records every step before it, and undoes all of them', async () => {
    expect(await withHold(held, deps, signal, work)).toBe('result');
    expect(fake.done).toEqual([
      ...['record hook', 'exec c1 freeze', 'record stop', 'stop c1 within 10 s'],
      'work',
      ...['start c1', 'record started', 'exec c1 thaw', 'record hook-done'],
    ]);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container has the time to stop that it was made with', async () => {
    fake.containers.get('c1')!.stopTimeout = 300;
    await withHold({ container, stop: true }, deps, signal, work);
    expect(fake.done).toContain('stop c1 within 300 s');
  });

  test('a container that does not run is left alone', async () => {
    fake.containers.get('c1')!.running = false;
    await withHold(held, deps, signal, work);
    expect(fake.done).toEqual(['work']);
  });

  test('one that would be removed by a stop is refused before anything', async () => {
    fake.containers.get('c1')!.autoRemove = true;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(fake.done).toEqual([]);
  });

  test('work that fails is undone too, and its error is the one told', async () => {
    const failing = withHold(held, deps, signal, () => Promise.reject(new Error('mine')));
    await expect(failing).rejects.toThrow('mine');
    expect(fake.done.slice(-4)).toEqual(['start c1', 'record started', 'exec c1 thaw', 'record hook-done']);
  });

  test('a pre hook that fails keeps the container from being stopped; post is still run, nothing is started', async () => {
    fake.statuses.freeze = 1;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(fake.done).toEqual(['record hook', 'exec c1 freeze', 'exec c1 thaw', 'record hook-done']);
  });

  test('a stop of which nothing is known counts as done', async () => {
    fake.failures.set('stop', away());
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
    expect(fake.done).toContain('start c1');
    expect(fake.done).not.toContain('work');
  });

  test('an entry that cannot be recorded keeps its step from being made', async () => {
    const full = {
      ...deps,
      record: () => {
        throw new Error('disk full');
      },
    };
    await expect(withHold(held, full, signal, work)).rejects.toThrow('disk full');
    expect(fake.done).toEqual([]);
  });

  test('what cannot be undone is told, and stays open in the journal', async () => {
    fake.failures.set('start', away());
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'ENGINE_UNREACHABLE' });
    expect(openHolds(journal)).toEqual([{ container, stopped: true, post: ['thaw'] }]);

    fake.failures.clear();
    fake.done = [];
    expect(await releaseHolds(journal, deps)).toEqual({ failures: [], again: false });
    expect(fake.done).toEqual(['start c1', 'record started', 'exec c1 thaw', 'record hook-done']);
    expect(openHolds(journal)).toEqual([]);
  });

  test('a post hook that ran and failed is told once and not tried again', async () => {
    fake.statuses.thaw = 3;
    await expect(withHold(held, deps, signal, work)).rejects.toMatchObject({ code: 'HOOK_FAILED' });
    expect(openHolds(journal)).toEqual([]);
  });

  test('a container made anew meanwhile is the one that is started', async () => {
    await withHold(held, deps, signal, async () => {
      fake.containers.delete('c1');
      fake.containers.set('c2', { running: false, autoRemove: false });
    });
    expect(fake.done.slice(-4)).toEqual(['start c2', 'record started', 'exec c2 thaw', 'record hook-done']);
  });

  test.each([[[]], [['c2', 'c3']]])('one that is gone, with %j in its place, is not tried again', async (others) => {
    fake.containers.clear();
    for (const id of others) fake.containers.set(id, { running: false, autoRemove: false });
    const entries: JournalEntry[] = [
      { type: 'hook', container, post: ['thaw'] },
      { type: 'stop', container },
    ];
    const { failures, again } = await releaseHolds(entries, deps);
    expect({ failures: failures.length, again }).toEqual({ failures: 1, again: false });
    expect(fake.done).toEqual(['record started', 'record hook-done']);
  });

  test('one container that cannot be released does not keep the next from it', async () => {
    const second = { ...container, id: 'c2' };
    fake.containers.set('c2', { running: false, autoRemove: false });
    fake.failures.set('exec', away());
    const { again } = await releaseHolds(
      [
        { type: 'hook', container, post: ['thaw'] },
        { type: 'stop', container: second },
      ],
      deps,
    );
    expect(again).toBe(true);
    expect(fake.done).toEqual(['start c2', 'record started']);
  });
});
