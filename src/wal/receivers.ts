import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { BaseSource, Plan } from '../plan/model.ts';
import type { LeftSlots } from './left-slots.ts';
import type { LeftWal } from './left-wal.ts';
import { Receiver } from './receiver.ts';
import type { ReceiverDeps } from './receiver-deps.ts';

interface ReceiversOptions {
  log: Log;
  /** removes helpers of receivers that an earlier daemon started */
  clear(): Promise<void>;
  /** ends what brings copies the WAL */
  stopFeed(): Promise<void>;
  /** drops slots that nobody uses, see {@link LeftSlots} */
  left: Pick<LeftSlots, 'check'>;
  /** stores WAL that nobody receives any more, see {@link LeftWal} */
  waiting: Pick<LeftWal, 'look' | 'release' | 'stop'>;
}

/** The receivers of the daemon: one for each source that asks for recovery to a point in time. */
export class Receivers {
  private readonly deps: () => ReceiverDeps;
  private readonly options: ReceiversOptions;
  private cleared = false;
  private stopped = false;
  private readonly running = new Map<string, { key: string; stop: AbortController; done: Promise<void> }>();
  private changing: Promise<void> = Promise.resolve();
  private looking: NodeJS.Timeout | undefined;
  private readonly over = new AbortController();

  /** @param deps called when a receiver starts, so that a project without one costs nothing */
  constructor(deps: () => ReceiverDeps, options: ReceiversOptions) {
    this.deps = deps;
    this.options = options;
  }

  /** Starts and stops receivers, so that they are those of the plan. A container that was replaced gets a new one. */
  update(plan: Plan): Promise<void> {
    this.changing = this.changing.then(() => this.change(plan));
    return this.changing;
  }

  /** Stops all receivers. Never rejects. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.looking);
    this.over.abort();
    // At once, because a change that waits for one of them would begin others.
    for (const { stop } of this.running.values()) stop.abort();
    await this.changing;
    await Promise.all([...this.running.keys()].map((name) => this.end(name)));
    await this.options.waiting.stop();
    await this.options.stopFeed();
  }

  private async change(plan: Plan): Promise<void> {
    if (this.stopped) return;
    const { sources } = plan;
    const wanted = new Map(sources.filter((one) => one.kind === 'base').map((one) => [one.server, one]));
    for (const [name, { key }] of this.running) {
      const source = wanted.get(name);
      // A Swarm that does not show its labels now may still ask for this receiver.
      if (source === undefined && plan.unreadLabels) continue;
      if (source === undefined || keyOf(source) !== key) await this.end(name);
    }
    if (wanted.size > 0 && !this.cleared) {
      await this.options
        .clear()
        .catch((error: unknown) =>
          this.options.log.warn('helpers of an earlier daemon could not be removed', { ...errorInfo(error) }),
        );
      this.cleared = true;
    }
    for (const [name, source] of wanted) {
      if (this.running.has(name) || this.stopped) continue;
      await this.options.waiting.release(name);
      if (!this.stopped) this.begin(name, source);
    }
    if (!this.stopped) this.options.waiting.look({ plan, received: new Set(this.running.keys()) });
    await this.lookForLeft(plan);
  }

  private async lookForLeft(plan: Plan): Promise<void> {
    clearTimeout(this.looking);
    const again = this.stopped ? undefined : await this.options.left.check(plan, this.over.signal);
    if (again === undefined || this.stopped) return;
    this.looking = setTimeout(() => {
      this.changing = this.changing.then(() => this.lookForLeft(plan));
    }, again);
    this.looking.unref();
  }

  private begin(name: string, source: BaseSource): void {
    const stop = new AbortController();
    this.options.log.debug('starting a receiver of WAL', { source: name });
    const done = new Receiver(this.deps(), source).run(stop.signal);
    this.running.set(name, { key: keyOf(source), stop, done });
  }

  private async end(name: string): Promise<void> {
    const one = this.running.get(name);
    if (!one) return;
    this.running.delete(name);
    one.stop.abort();
    await one.done;
  }
}

/** Returns what a receiver depends on: after a restart, a container has the same id and another network namespace. */
function keyOf({ containerId, imageId, life, user, port }: BaseSource): string {
  return JSON.stringify([containerId, imageId, life?.startedAt, user, port]);
}
