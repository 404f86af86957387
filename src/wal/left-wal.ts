import { lstat, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { onAbort } from '../base/abort.ts';
import { errorInfo, hasErrno, LifeboatError } from '../base/errors.ts';
import type { Plan } from '../plan/model.ts';
import { watched } from '../run/watchdog.ts';
import { type ReceiverDeps, tell } from './receiver-deps.ts';
import { KEPT_DAYS, removeAside, sourcesWithAside } from './spool/aside.ts';
import { listSegments } from './spool/received-files.ts';
import { limitAside } from './spool-limit.ts';
import { Waiting } from './waiting.ts';

/** The time between two looks, milliseconds. */
const AGAIN_MS = 60_000;
/** The longest wait for work that was aborted, milliseconds. What hangs is left alone then. */
const LEAVE_MS = 2000;
/** If another agent has not stored WAL of the same server for this time, nobody receives it there, milliseconds. */
const QUIET_MS = 60 * 60_000;

type LeftDeps = Pick<
  ReceiverDeps,
  'project' | 'memory' | 'spool' | 'repository' | 'home' | 'now' | 'feed' | 'log' | 'alarm' | 'stallTimeoutMs'
>;

/** The present plan, and the sources that need no look; see {@link LeftWal.look}. */
interface Present {
  plan: Plan;
  /** the sources that have a receiver */
  received: ReadonlySet<string>;
}

/**
 * Stores received WAL of sources that have no receiver: their container stopped, or lost its label, or has another
 * name. It may be all that is left of the last minutes of a server.
 */
export class LeftWal {
  private readonly deps: LeftDeps;
  private present: Present | undefined;
  private running: Promise<void> | undefined;
  private readonly over = new AbortController();
  /** the directory that is being stored */
  private current: { source: string; stop: AbortController; done: Promise<void> } | undefined;
  /** by source, why its WAL could not be stored: each reason is logged once */
  private readonly told = new Map<string, string>();
  /** by source, the files of which everything is stored */
  private readonly stored = new Map<string, string>();
  private wake: () => void = () => undefined;

  constructor(deps: LeftDeps) {
    this.deps = deps;
  }

  /** Looks now, and again each minute. Returns at once. */
  look(present: Present): void {
    this.present = present;
    this.wake();
    this.running ??= this.run();
  }

  /** Leaves the directory of a source to its receiver. Resolves when nobody changes it any more. Never rejects. */
  async release(source: string): Promise<void> {
    if (this.present) this.present = { ...this.present, received: new Set([...this.present.received, source]) };
    if (this.current?.source !== source) return;
    this.current.stop.abort();
    await this.current.done;
  }

  /** Ends. Never rejects. */
  async stop(): Promise<void> {
    this.over.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.over;
    while (!signal.aborted) {
      const sources = await directoriesIn(this.deps.spool).catch(() => []);
      for (const source of sources) {
        if (signal.aborted || this.present?.received.has(source)) continue;
        const stop = new AbortController();
        const until = AbortSignal.any([signal, stop.signal]);
        const done = endSoon(this.leave(source, until), until);
        this.current = { source, stop, done };
        await done;
        this.current = undefined;
      }
      await this.removeAside().catch((error: unknown) =>
        this.deps.log.debug('WAL that is set aside could not be removed', { ...errorInfo(error) }),
      );
      await this.pause(signal);
    }
  }

  /**
   * Removes old WAL that was set aside of sources that nobody asks for. Receivers remove that of their own. The limit
   * is for all: a receiver keeps it only while it follows its server.
   */
  private async removeAside(): Promise<void> {
    const { spool, now, memory } = this.deps;
    const before = new Date(now().getTime() - KEPT_DAYS * 86_400_000);
    for (const source of await sourcesWithAside(spool)) {
      const directory = path.join(spool, source);
      if (this.isGone(source, await memory.slots())) await removeAside(directory, before);
      await limitAside(directory, (error) => tell(this.deps, source, error));
    }
  }

  private pause(signal: AbortSignal): Promise<unknown> {
    const woken = new AbortController();
    this.wake = () => woken.abort();
    const until = AbortSignal.any([signal, woken.signal]);
    return sleep(AGAIN_MS, undefined, { signal: until, ref: false }).catch(() => undefined);
  }

  private async leave(source: string, signal: AbortSignal): Promise<void> {
    const { spool, log, memory } = this.deps;
    const directory = path.join(spool, source);
    try {
      const waiting = this.waitingOf(source, directory);
      const isGone = this.isGone(source, await memory.slots());
      const isStored = isGone && (await waiting.leaveAll(signal));
      if (!isGone && (await listOf(directory)) !== this.stored.get(source)) {
        const left = await waiting.storeRest(signal);
        if (left) throw left;
      }
      signal.throwIfAborted();
      this.told.delete(source);
      this.stored.set(source, await listOf(directory));
      if (!isGone) return;
      await rm(directory, { recursive: true, force: true });
      const what = isStored ? 'everything is stored' : 'what is not stored is set aside';
      log.info(`removed the spool of a source that is received no more: ${what}`, { source });
    } catch (error) {
      const info = errorInfo(error);
      if (signal.aborted || this.told.get(source) === info.message) return;
      this.told.set(source, info.message);
      log.warn('received WAL waits in the spool: it could not be stored', { source, ...info });
    }
  }

  /** Returns whether nobody asks for a source any more. While its slot is there, the receiver may go on. */
  private isGone(source: string, slots: readonly { source: string }[]): boolean {
    const { plan } = this.present ?? {};
    const isKnown =
      plan?.sources.some((one) => one.kind === 'base' && one.server === source) || plan?.stopped?.[source];
    return plan !== undefined && !plan.unreadLabels && !isKnown && slots.every((one) => one.source !== source);
  }

  private waitingOf(source: string, directory: string): Waiting {
    const { deps } = this;
    const stalled = () => new LifeboatError('DEST_UNREACHABLE', 'storing WAL made no progress');
    return new Waiting({
      ...{ deps, source, directory },
      storing: { watched: (work, signal) => watched({ limitMs: deps.stallTimeoutMs, stalled, signal }, work) },
      status: { isOf: () => false },
      quietMs: QUIET_MS,
    });
  }
}

/** Waits for work. Leaves it alone if it goes on long after the signal has aborted. */
async function endSoon(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const late = Promise.withResolvers<void>();
  let timer: NodeJS.Timeout | undefined;
  const forget = onAbort(signal, () => {
    timer = setTimeout(late.resolve, LEAVE_MS);
  });
  try {
    await Promise.race([work, late.promise]);
  } finally {
    forget();
    clearTimeout(timer);
  }
}

/** Returns the segments in a directory, with the time of the last change of each. */
async function listOf(directory: string): Promise<string> {
  const names = (await listSegments(directory)).sort();
  const stats = await Promise.all(names.map((name) => lstat(path.join(directory, name))));
  return names.map((name, i) => `${name} ${stats[i]?.mtimeMs}`).join('\n');
}

/** Returns the sources with received WAL, also those whose directory is empty. */
async function directoriesIn(spool: string): Promise<string[]> {
  const entries = await readdir(spool, { withFileTypes: true }).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  });
  return entries.filter((one) => one.isDirectory() && !one.name.includes('.aside')).map(({ name }) => name);
}
