import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { aborted, onAbort } from '../base/abort.ts';
import { hasCode, type LifeboatError } from '../base/errors.ts';
import { WAL_RUN } from '../docker/helper-labels.ts';
import type { BaseSource } from '../plan/model.ts';
import { serverOf } from '../plan/postgres.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { replicationProblem, tryReplication } from '../sources/postgres/wal/replication.ts';
import { receiveWal, type SlotState, slotName } from '../sources/postgres/wal/slot.ts';
import type { WalWriter } from '../store/wal/write-log.ts';
import { BaseMaker } from './base-maker.ts';
import { Fork } from './fork.ts';
import { leaveAll, leaveTimeline } from './leave-received.ts';
import { Lookout, nextTo } from './lookout.ts';
import { leaveHistory, openLog } from './open-log.ts';
import { dropFormerSlot, ensureSlot, isWalGone } from './own-slot.ts';
import { type Reached, reach } from './reach.ts';
import { type ReceiverDeps, tell } from './receiver-deps.ts';
import { forgetReplacement, replacementOf } from './receiver-state.ts';
import { ReceiverStatus } from './receiver-status.ts';
import { Shipping } from './shipping.ts';
import { Progress } from './slot-watch.ts';
import { removeAside } from './spool/aside.ts';
import { removeUnusable } from './spool/received-files.ts';
import { storeIntervalMs } from './store-interval.ts';
import { type Stored, Storing } from './storing.ts';
import { Waiting } from './waiting.ts';

/** Pauses between attempts to receive, milliseconds. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
/** The time to store what is left at the end, milliseconds: the daemon may have to stop soon. */
const LAST_MS = 5000;

/** A server whose WAL can be received. */
type Connected = Reached & Stored & { writer: WalWriter; storing: Storing };

/**
 * Receives and stores the WAL of one server, until the signal aborts. Starts over after every failure. It is judged by
 * its progress: the slot is active, and follows the server. Silence of an idle server is no failure.
 */
export class Receiver {
  private readonly deps: ReceiverDeps;
  private readonly source: BaseSource;
  private readonly directory: string;
  private readonly status: ReceiverStatus;
  private readonly bases: BaseMaker;
  /** why WAL is missing, until the gap is recorded */
  private reason: string | undefined;
  private renew = false;
  /** why another history begins: the server or its clock went back, or it had tablespaces */
  private diverged: LifeboatError | undefined;
  /** another agent receives the same WAL: this one would take turns with it, and only looks at its slot */
  private locked: LifeboatError | undefined;
  /** the server has answered in the last attempt */
  private isReached = false;
  /** the last state of a slot that was dropped because the server kept too much WAL for it */
  private dropped: SlotState | undefined;
  private readonly lookout: Lookout;
  private readonly storing: Storing;
  private readonly fork: Fork;
  private readonly waiting: Waiting;

  constructor(deps: ReceiverDeps, source: BaseSource) {
    this.deps = deps;
    this.source = source;
    this.directory = path.join(deps.spool, source.server);
    const intervalMs = storeIntervalMs(source.rpoMs);
    this.bases = new BaseMaker(deps, source);
    this.status = new ReceiverStatus(deps, source);
    const { status, bases } = this;
    this.fork = new Fork(deps.log);
    this.lookout = new Lookout({
      intervalMs,
      alarm: (error) => this.raise(error),
      onDrop: (state, error) => {
        this.reason ??= error.message;
        this.dropped ??= state;
      },
      onTablespaces: (error) => this.diverge(error),
      onMinute: () => removeAside(this.directory, new Date(deps.now().getTime() - source.windowMs)),
      onLook: (state) => status.followed(state),
    });
    this.storing = new Storing({
      ...{ status, bases, intervalMs, stallTimeoutMs: deps.stallTimeoutMs },
      onCaughtUp: (shipping) => {
        this.reason = undefined;
        shipping.expectGap(undefined);
      },
    });
    const { storing, directory } = this;
    this.waiting = new Waiting({ deps, source: source.server, directory, storing, status });
  }

  /** Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.status.remember();
    this.diverged = this.status.diverged;
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        await this.receive(signal);
      } catch (error) {
        if (signal.aborted) break;
        if (hasCode(error, 'WAL_DIVERGED', 'CLOCK_JUMPED')) this.diverge(error);
        if (hasCode(error, 'LOCKED')) this.locked = error;
        await this.status.failed(this.locked ?? error, this.locked ? Number.POSITIVE_INFINITY : 0);
        if (!this.isReached || hasCode(this.diverged, 'PG_REPLICATION')) await this.storeWaiting(signal);
      }
      if (performance.now() - begun > LONGEST_PAUSE_MS) pause = FIRST_PAUSE_MS;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    await this.storeWaiting(AbortSignal.timeout(LAST_MS));
    await this.bases.ended();
  }

  private async storeWaiting(signal: AbortSignal): Promise<void> {
    // Of a server that contradicts what is stored, nothing more is.
    if (!this.locked && !hasCode(this.diverged, 'WAL_DIVERGED')) await this.waiting.storeOnce(signal);
  }

  /** Connects, receives and ships until something fails. */
  private async receive(signal: AbortSignal): Promise<void> {
    const { deps, source, directory: root } = this;
    this.isReached = false;
    await mkdir(root, { recursive: true, mode: 0o700 });
    const application = applicationName(deps.project, WAL_RUN);
    const tools = await deps.openTools(serverOf(source), {
      ...{ application, runId: WAL_RUN, recordHelper: () => undefined, withData: true, signal },
      share: { directory: root, access: 'read-write' },
    });
    // Whatever the work waits for, the server and the spool are looked at.
    const { promise: reaching, resolve, reject } = Promise.withResolvers<Reached>();
    const work = async (until: AbortSignal) => {
      const session = await tools.session('postgres', until).catch(() => tools.control());
      const reached = await reach({ ...{ deps, source }, tools, session, directory: root });
      await this.lookout.check(reached, reached.before, until);
      this.isReached = true;
      resolve(reached);
      // The slot stays, and the server must not keep too much WAL for it.
      if (this.locked) await aborted(until);
      else await this.work(reached, until, signal);
    };
    const watch = async (until: AbortSignal) => {
      onAbort(until, () => reject(until.reason));
      return this.lookout.watch(await reaching, until);
    };
    await nextTo({ work, watch, end: () => tools.close() }, signal);
  }

  /** @param whole ends a base backup, which outlives this connection */
  private async work(reached: Reached, signal: AbortSignal, whole: AbortSignal): Promise<void> {
    const connected = await this.prepare(reached, signal);
    const { tools, directory, facts } = connected;
    // `pg_receivewal` would ask for the WAL after the last received file. The server may have removed it, and would
    // keep it again from now on.
    if (this.dropped) await leaveAll(connected, signal, this.dropped.slot);
    this.dropped = undefined;
    await leaveTimeline(connected, facts.segmentSize, signal);
    await this.fork.begin(connected, signal);
    await this.storing.drain(connected, signal);
    await removeUnusable(directory, facts.segmentSize);
    reached.progress = new Progress();
    this.waiting.begin();
    const ended = new AbortController();
    const until = AbortSignal.any([signal, ended.signal]);
    const receiving = receiveWal(tools, connected, until).finally(() => ended.abort());
    receiving.catch(() => undefined);
    try {
      await this.storing.follow(connected, until, whole);
    } catch (error) {
      // The reason why the receiver ended says more than the end of the supervision.
      if (!ended.signal.aborted || signal.aborted) throw error;
    } finally {
      ended.abort();
      delete reached.progress;
    }
    await receiving.catch(async (error: unknown) => {
      if (isWalGone(error)) await this.startOver(connected, signal);
      throw error;
    });
  }

  /** Starts over at a new slot after the server has removed WAL that `pg_receivewal` asks for. */
  private async startOver(connected: Connected, signal: AbortSignal): Promise<void> {
    this.reason ??= 'the server no longer has it';
    await leaveAll(connected, signal);
    // A receiver that asks for older WAL also takes its slot back there.
    this.renew = true;
  }

  private async prepare(reached: Reached, signal: AbortSignal): Promise<Connected> {
    const { deps, source, storing } = this;
    const { tools, session, facts, slot, home, before, directory } = reached;
    const problem = replicationProblem(facts, before.slot !== undefined);
    // A recovery could not get past the WAL of a tablespace, also once it is gone.
    if (problem && facts.tablespaces.length > 0) this.diverge(problem);
    if (problem) throw problem;
    await tryReplication(tools, signal);
    const { systemId, segmentSize } = facts;
    const recorded = await deps.memory.replacement(source.server);
    // First, or a failure after the record would ship the WAL of the former server as that of this one.
    await this.waiting.leaveFormer(systemId, signal);
    const writer = await this.openLog(reached, signal);
    const shipping = new Shipping({
      ...{ writer, directory, segmentSize, now: deps.now },
      onGap: (error) => this.noteGap(error),
      onTablespace: (error) => this.diverge(error),
    });
    if (writer.home !== undefined && writer.home !== home)
      await dropFormerSlot({ session, source, log: deps.log }, slotName(writer.home, deps.project, source.server));
    const replaced = await ensureSlot({ ...{ session, slot, source, renew: this.renew }, ...deps }, before);
    this.renew = false;
    if (replaced !== undefined && !writer.inventory.isEmpty) this.reason ??= replaced;
    if (this.reason !== undefined) shipping.expectGap(this.reason);
    await this.status.connected(systemId, slot, before.timeline);
    // A replacement is recorded while the server does not run. One that is left did not take place.
    await forgetReplacement(deps.memory, source.server, recorded);
    this.bases.want();
    return Object.assign(reached, { writer, shipping, storing, systemId, segmentSize, begun: before.flushed });
  }

  private async openLog({ facts, home, before }: Reached, signal: AbortSignal): Promise<WalWriter> {
    const [{ deps, source }, { remembered }] = [this, this.status];
    const options = { deps, source, raise: (error: LifeboatError) => this.raise(error), remembered };
    const replacement = await replacementOf(deps.memory, source.server, { ...facts, timeline: before.timeline });
    const more = { home, before, diverged: this.diverged, replacement };
    await leaveHistory(this.waiting, more, signal);
    this.renew ||= hasCode(this.diverged, 'WAL_DIVERGED');
    const { writer, isAnew } = await this.storing.watched((until) => openLog(options, facts, more, until), signal);
    signal.throwIfAborted();
    this.diverged = undefined; // Before the next step, which fails on a full spool: people have heard of it.
    if (isAnew) await this.status.begunAnew();
    if (replacement) await forgetReplacement(deps.memory, source.server, replacement);
    return writer;
  }

  /** Notes why another history begins. What contradicts the stored WAL counts most. */
  private diverge(error: LifeboatError): void {
    if (this.diverged && !hasCode(error, 'WAL_DIVERGED')) return;
    this.diverged = error;
    void this.status.diverge(error);
  }

  /** Tells people about an error that the receiver survives. */
  private raise(error: LifeboatError): void {
    tell(this.deps, this.source.server, error);
  }

  private noteGap(error: LifeboatError): void {
    this.deps.log.error('WAL is missing; making a new base backup', { source: this.source.server });
    this.raise(error);
    this.reason = undefined;
    this.bases.want();
  }
}
