import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo, hasCode, type LifeboatError } from '../base/errors.ts';
import { WAL_RUN } from '../docker/helper-labels.ts';
import type { BaseSource } from '../plan/model.ts';
import { serverOf } from '../plan/postgres.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import {
  type ReplicationFacts,
  readReplicationFacts,
  replicationProblem,
  tryReplication,
} from '../sources/postgres/wal/replication.ts';
import { readSlot, receiveWal, type SlotState, slotName } from '../sources/postgres/wal/slot.ts';
import { lostEnd } from '../store/wal/read-log.ts';
import { WalWriter } from '../store/wal/write-log.ts';
import { BaseMaker } from './base-maker.ts';
import { leaveAll, leaveTimeline } from './leave-received.ts';
import { dropFormerSlot, ensureSlot, isWalGone } from './own-slot.ts';
import { empty, removeUnfilled } from './received-files.ts';
import type { ReceiverDeps } from './receiver-deps.ts';
import { ReceiverStatus } from './receiver-status.ts';
import { Shipping } from './shipping.ts';
import { SlotGuard } from './slot-guard.ts';
import { Progress } from './slot-watch.ts';
import { isSpoolFull, refuseFullSpool } from './spool-limit.ts';
import { storeIntervalMs } from './store-interval.ts';

/** Pauses between attempts to receive, milliseconds. */
const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;

/** The parts of one connection to the server. */
interface Connected {
  tools: Tools;
  session: Session;
  facts: ReplicationFacts;
  slot: string;
  directory: string;
  shipping: Shipping;
  /** the server's position when the connection was made */
  begun: bigint;
}

/**
 * Receives and stores the WAL of one server, until the signal aborts. Starts over after every failure. It is judged by
 * its progress: the slot is active, and follows the server. Silence of an idle server is no failure.
 */
export class Receiver {
  private readonly deps: ReceiverDeps;
  private readonly source: BaseSource;
  private readonly status: ReceiverStatus;
  private readonly bases: BaseMaker;
  /** why WAL is missing, until the gap is recorded */
  private reason: string | undefined;
  private renew = false;
  /** the last state of a slot that was dropped because the server kept too much WAL for it */
  private dropped: SlotState | undefined;
  private readonly guard: SlotGuard;
  private readonly intervalMs: number;

  constructor(deps: ReceiverDeps, source: BaseSource) {
    this.deps = deps;
    this.source = source;
    this.intervalMs = storeIntervalMs(source.rpoMs);
    this.bases = new BaseMaker(deps, source);
    this.status = new ReceiverStatus(deps, source);
    this.guard = new SlotGuard((error) => this.raise(error));
  }

  /** Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    await this.status.remember();
    let pause = FIRST_PAUSE_MS;
    while (!signal.aborted) {
      const begun = performance.now();
      try {
        await this.receive(signal);
      } catch (error) {
        if (signal.aborted) break;
        await this.status.failed(error);
      }
      if (performance.now() - begun > LONGEST_PAUSE_MS) pause = FIRST_PAUSE_MS;
      await sleep(pause, undefined, { signal }).catch(() => undefined);
      pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    }
    await this.bases.ended();
  }

  /** Connects, receives and ships until something fails. */
  private async receive(signal: AbortSignal): Promise<void> {
    const { deps, source } = this;
    const root = path.join(deps.spool, source.server);
    await mkdir(root, { recursive: true, mode: 0o700 });
    const tools = await deps.openTools(serverOf(source), {
      application: applicationName(deps.project, WAL_RUN),
      runId: WAL_RUN,
      recordHelper: () => undefined,
      share: { directory: root, access: 'read-write' },
      withData: true,
      signal,
    });
    try {
      const session = await tools.session('postgres', signal).catch(() => tools.control());
      const connected = await this.prepare({ tools, session, root }, signal);
      // From there on, the new slot would make the server keep the WAL that the drop allowed it to remove.
      if (this.dropped) await leaveAll(connected, signal, this.dropped.slot);
      this.dropped = undefined;
      await leaveTimeline(connected, connected.facts.segmentSize, signal);
      await this.drain(connected, signal);
      await removeUnfilled(connected.directory, connected.facts.segmentSize);
      const ended = new AbortController();
      const until = AbortSignal.any([signal, ended.signal]);
      const receiving = receiveWal(tools, connected, until).finally(() => ended.abort());
      receiving.catch(() => undefined);
      try {
        await this.supervise(connected, until, signal);
      } catch (error) {
        // The reason why the receiver ended says more than the end of the supervision.
        if (!ended.signal.aborted || signal.aborted) throw error;
      } finally {
        ended.abort();
      }
      await receiving.catch(async (error: unknown) => {
        if (isWalGone(error)) await this.startOver(connected, signal);
        throw error;
      });
    } finally {
      await tools.close();
    }
  }

  /** Starts over at a new slot after the server has removed WAL that `pg_receivewal` asks for. */
  private async startOver(connected: Connected, signal: AbortSignal): Promise<void> {
    this.reason ??= 'the server no longer has it';
    await leaveAll(connected, signal);
    // A receiver that asks for older WAL also takes its slot back there.
    this.renew = true;
  }

  /** @throws WAL_GAP after the guard has dropped the slot */
  private async check(one: Pick<Connected, 'tools' | 'session' | 'slot'>, state: SlotState, signal: AbortSignal) {
    await this.guard.check(one, state, signal).catch((error: unknown) => {
      if (!hasCode(error, 'WAL_GAP')) throw error;
      this.reason ??= error.message;
      this.dropped = state;
      throw error;
    });
  }

  private async prepare(
    { tools, session, root }: Pick<Connected, 'tools' | 'session'> & { root: string },
    signal: AbortSignal,
  ): Promise<Connected> {
    const { deps, source } = this;
    const facts = await readReplicationFacts(session);
    const home = await deps.home();
    const slot = slotName(home, deps.project, source.server);
    // A standby does not say where its WAL ends.
    const standby = facts.inRecovery ? replicationProblem(facts, false) : undefined;
    if (standby) throw standby;
    const before = await readSlot(session, slot);
    // First, because the server may be in danger for as long as the rest fails.
    await this.check({ tools, session, slot }, before, signal);
    const problem = replicationProblem(facts, before.slot !== undefined);
    if (problem) throw problem;
    await tryReplication(tools, signal);
    const { systemId, segmentSize } = facts;
    const repository = await deps.repository();
    const place = { project: deps.project, source: source.server, systemId };
    const writer = await WalWriter.open(repository, { place, segmentSize, home, now: deps.now, appended: deps.feed });
    const lost = lostEnd(repository, source.server, writer.opened, this.status.remembered);
    if (lost) this.raise(lost);
    const shipping = new Shipping({
      ...{ writer, directory: root, segmentSize, now: deps.now },
      onGap: (error) => this.noteGap(error),
    });
    if (writer.home !== undefined && writer.home !== home)
      await dropFormerSlot({ session, source, log: deps.log }, slotName(writer.home, deps.project, source.server));
    const replaced = await ensureSlot({ ...{ session, slot, source, renew: this.renew }, ...deps }, before);
    this.renew = false;
    if (replaced !== undefined && !writer.inventory.isEmpty) this.reason ??= replaced;
    if (this.reason !== undefined) shipping.expectGap(this.reason);
    // First, or a failure after the record would ship the WAL of the former server as that of this one.
    if (!this.status.isOf(systemId)) await empty(root);
    await this.status.connected(systemId, slot);
    this.bases.want();
    return { tools, session, facts, slot, directory: root, shipping, begun: before.flushed };
  }

  /** Ships what waits before more is received, if the spool holds much. */
  private async drain(connected: Connected, signal: AbortSignal): Promise<void> {
    while (await isSpoolFull(connected.directory, 2)) {
      const state = await readSlot(connected.session, connected.slot);
      await this.check(connected, state, signal);
      const shipped = await this.ship(connected.shipping, state, signal);
      // What is left now is the file that is being received, however large it is.
      if (shipped && !shipped.more) return;
      if (!shipped) await sleep(this.intervalMs, undefined, { signal });
    }
  }

  /**
   * Ships received WAL, and watches the receiver. @throws when the receiver or the server must be reached again
   * @param whole ends a base backup, which outlives this connection
   */
  private async supervise(connected: Connected, signal: AbortSignal, whole: AbortSignal): Promise<void> {
    const { session, slot, shipping, facts } = connected;
    const progress = new Progress();
    for (;;) {
      const state = await readSlot(session, slot);
      progress.check(state);
      await this.check(connected, state, signal);
      const shipped = await this.ship(shipping, state, signal);
      if (shipped?.stored !== undefined && shipped.stored > connected.begun) {
        // Newer WAL follows without a gap, or its gap is noted. A later gap has another reason.
        this.reason = undefined;
        shipping.expectGap(undefined);
      }
      if (shipped?.stored !== undefined && !shipped.more) {
        const end = { systemId: facts.systemId, timeline: state.timeline, stored: shipped.stored };
        await this.bases.provide(end, { read: signal, make: whole });
      }
      if (!shipped) await refuseFullSpool(connected.directory);
      if (!shipped?.more) await sleep(this.intervalMs, undefined, { signal });
    }
  }

  /** Ships once. A failure of the destination does not end the receiver: the spool keeps what waits. */
  private async ship(shipping: Shipping, state: SlotState, signal: AbortSignal) {
    try {
      const shipped = await shipping.ship(state, signal);
      await this.status.received(state, shipped);
      return shipped;
    } catch (error) {
      signal.throwIfAborted();
      if (hasCode(error, 'LOCKED', 'WAL_GAP', 'WAL_DIVERGED')) throw error;
      await this.status.failed(error);
      return undefined;
    }
  }

  /** Tells people about an error that the receiver survives. */
  private raise(error: LifeboatError): void {
    this.deps.log.warn(error.message, { source: this.source.server, ...errorInfo(error) });
    const topic = hasCode(error, 'WAL_BEHIND') ? 'wal-behind' : 'wal-gap';
    this.deps.alarm(topic, this.source.server, errorInfo(error));
  }

  private noteGap(error: LifeboatError): void {
    const info = { source: this.source.server, ...errorInfo(error) };
    this.deps.log.error('WAL is missing; making a new base backup', info);
    this.deps.alarm('wal-gap', this.source.server, errorInfo(error));
    this.reason = undefined;
    this.bases.want();
  }
}
