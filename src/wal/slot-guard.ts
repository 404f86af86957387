import { LifeboatError } from '../base/errors.ts';
import { formatBytes } from '../report/format.ts';
import { type DiskSpace, walDisk } from '../sources/postgres/facts/disk.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { dropSlot, otherSlots, readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import { isWorthALook, judgeSlot, keptBytes } from './slot-watch.ts';

/** A measurement of the disk counts for this time, milliseconds. */
const DISK_MS = 60_000;

/** A connection to the server whose slot is guarded. */
interface Guarded {
  tools: Tools;
  session: Session;
  slot: string;
}

/**
 * Protects the server's disk from the WAL that the server keeps for a slot: gives an alarm first, then drops the slot.
 * It works whether the receiver does or not.
 */
export class SlotGuard {
  private readonly alarm: (error: LifeboatError) => void;
  private disk: { at: number; space: DiskSpace | undefined } | undefined;
  private warned = false;
  /** slots of others that people know of */
  private readonly others = new Set<string>();

  /** @param alarm called once when the WAL becomes too much, again after it was little in between, and for each drop */
  constructor(alarm: (error: LifeboatError) => void) {
    this.alarm = alarm;
  }

  /** @throws WAL_GAP after it has dropped the slot */
  async check({ tools, session, slot }: Guarded, state: SlotState, signal: AbortSignal): Promise<void> {
    if (!state.slot || !isWorthALook(state)) {
      this.warned = false;
      return;
    }
    const danger = judgeSlot(state, await this.measure(tools, signal));
    if (danger?.level === 'drop') {
      await dropSlot(session, slot);
      const error = new LifeboatError('WAL_GAP', `${danger.why}, so Lifeboat dropped the replication slot`, {
        hint: 'Lifeboat starts over with a new slot and a new base backup. Check why it could not receive the WAL.',
      });
      this.alarm(error);
      throw error;
    }
    if (danger && !this.warned) {
      const hint = 'Check why Lifeboat receives the WAL too slowly: `lifeboat status` shows the receiver.';
      this.alarm(new LifeboatError('WAL_BEHIND', danger.why, { hint }));
    }
    this.warned = danger !== undefined;
  }

  /**
   * Looks at slots of agents that nobody runs any more, such as one of a project that has another name now. Drops those
   * that endanger the server.
   */
  async checkOthers({ tools, session, slot }: Guarded, signal: AbortSignal): Promise<void> {
    for (const other of await otherSlots(session, slot)) {
      const state = await readSlot(session, other);
      const hint = `Nobody uses it. If no other Lifeboat does, run SELECT pg_drop_replication_slot('${other}');`;
      if (!state.slot || state.slot.active || !isWorthALook(state)) continue;
      const danger = judgeSlot(state, await this.measure(tools, signal));
      if (danger?.level === 'drop') {
        await dropSlot(session, other);
        this.others.delete(other);
        const what = `${danger.why}, so Lifeboat dropped the replication slot ${other}, which nobody used`;
        this.alarm(new LifeboatError('WAL_BEHIND', what));
      } else if (!this.others.has(other)) {
        this.others.add(other);
        const what = `the server keeps ${formatBytes(keptBytes(state))} of WAL for the replication slot ${other}`;
        this.alarm(new LifeboatError('WAL_BEHIND', what, { hint }));
      }
    }
  }

  private async measure(tools: Tools, signal: AbortSignal): Promise<DiskSpace | undefined> {
    if (!this.disk || performance.now() - this.disk.at > DISK_MS)
      this.disk = { at: performance.now(), space: await walDisk(tools, signal) };
    return this.disk.space;
  }
}
