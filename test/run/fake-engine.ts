import { PassThrough } from 'node:stream';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Engine, EventsOptions } from '../../src/docker/engine.ts';

type Details = Awaited<ReturnType<Engine['inspectContainer']>>;

interface FakeEvent {
  action: string;
  id: string;
  time: number;
  attributes: Record<string, string>;
}

/** Simulates the engine calls of a hold. Records the actions, in order. */
export class FakeEngine {
  containers = new Map<
    string,
    Partial<Details> & {
      running: boolean;
      autoRemove: boolean;
      startedAt: string;
    }
  >();
  done: string[] = [];
  /** thrown by the next call of that name */
  failures = new Map<string, unknown>();
  /** labels of the last list request */
  asked: string[] = [];
  /** events of other clients, and of calls through this engine */
  remembered: FakeEvent[] = [];
  /** called while a container is being stopped */
  whileStopping?: (id: string) => void;
  private readonly followers = new Set<PassThrough>();

  /** `at`: seconds since the epoch, default now */
  remember(action: string, id: string, attributes: Record<string, string> = {}, time = Date.now() / 1000): void {
    const event = { action, id, time, attributes };
    this.remembered.push(event);
    for (const follower of this.followers) follower.write(event);
  }

  private async *follow(matches: (event: FakeEvent) => boolean, signal?: AbortSignal): AsyncGenerator<FakeEvent> {
    const stream = new PassThrough({ objectMode: true });
    for (const event of this.remembered) stream.write(event);
    this.followers.add(stream);
    signal?.addEventListener('abort', () => stream.end());
    for await (const event of stream) if (matches(event)) yield event;
  }

  /** calls that stop a container never return */
  slow = false;
  /** commands that continue running, by their first word: they have ended after so many inspections */
  lasting: Record<string, number> = {};
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
      if (found) return { id, name: `name of ${id}`, labels: {}, paused: false, ...found };
      const cause = Object.assign(new Error('no such container'), { statusCode: 404 });
      throw new LifeboatError('ENGINE_REFUSED', 'no such container', { cause });
    },
    inspectImage: async () => ({ labels: {} }),
    listContainers: async ({ labels }: { labels?: string[] }) => {
      if (labels) this.asked = labels;
      return [...this.containers].map(([id, { running, networkMode }]) => {
        const service = id === 'agent' ? 'lifeboat' : id;
        const state = running ? 'running' : 'exited';
        const its = { 'com.docker.compose.service': service, ...this.containers.get(id)?.labels };
        return { id, name: `name of ${id}`, state, networkMode: networkMode ?? '', labels: its };
      });
    },
    stopContainer: async (id: string, { timeout, signal }: { timeout: number; signal?: AbortSignal }) => {
      this.step(`stop ${id} within ${timeout} s`);
      this.remember('kill', id, { signal: '15' });
      this.whileStopping?.(id);
      if (this.slow) await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
      this.containers.get(id)!.running = false;
      this.remember('die', id);
    },
    events: async ({ actions = [], containers, labels, since = 0, until, signal }: EventsOptions) => {
      const matches = ({ action, id, time }: FakeEvent) =>
        time >= since && actions.includes(action) && (labels !== undefined || containers?.includes(id) === true);
      return until === undefined ? this.follow(matches, signal) : this.remembered.filter(matches);
    },
    startContainer: async (id: string) => {
      this.step(`start ${id}`);
      const found = this.containers.get(id)!;
      if (!found.running) Object.assign(found, { running: true, startedAt: new Date().toISOString() });
    },
    execCreate: async (id: string, { argv }: { argv: string[] }) => {
      this.step(`exec ${id} ${argv.join(' ')}`);
      return argv[0] ?? '';
    },
    execStart: async (word: string, { signal }: { signal?: AbortSignal }) => {
      const socket = new PassThrough();
      if (!this.lasting[word]) return socket.end();
      signal?.addEventListener('abort', () => socket.destroy(signal.reason));
      return socket;
    },
    execInspect: async (word: string) => {
      const looks = this.lasting[word] ?? 0;
      this.lasting[word] = looks - 1;
      return { containerId: 'c1', running: looks > 0, exitCode: this.statuses[word] ?? 0 };
    },
  } as unknown as Engine;
}
