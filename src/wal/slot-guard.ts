import { LifeboatError } from '../base/errors.ts';
import { formatBytes } from '../report/format.ts';
import { type DiskSpace, walDisk } from '../sources/postgres/facts/disk.ts';
import type { Session } from '../sources/postgres/server/session.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { dropSlot, otherSlots, readSlot, type SlotState } from '../sources/postgres/wal/slot.ts';
import { isWorthALook, judgeSlot, keptBytes } from './slot-watch.ts';

/** A measurement of the disk counts for this time, milliseconds. */
const DISK_MS = 60_000;

/** A slot of another agent counts as left after this time without use, milliseconds: its receiver may come back. */
const GRACE_MS = 60 * 60_000;

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
  /** inactive slots of others: since when they have not moved, by `performance.now()`, and whether people know */
  private others = new Map<string, { since: number; kept: bigint | undefined; told: boolean }>();

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
   * that endanger the server. A slot counts only once it was never used for an hour: another Lifeboat may be about to
   * connect.
   */
  async checkOthers({ tools, session, slot }: Guarded, signal: AbortSignal): Promise<void> {
    const names = await otherSlots(session, slot);
    const before = this.others;
    this.others = new Map();
    for (const other of names) {
      const state = await readSlot(session, other);
      if (!state.slot || state.slot.active) continue;
      const { kept } = state.slot;
      const known = before.get(other);
      const seen = known && known.kept === kept ? known : { since: performance.now(), kept, told: false };
      this.others.set(other, seen);
      if (performance.now() - seen.since >= GRACE_MS && isWorthALook(state))
        await this.judgeOther(other, { state, seen, session }, await this.measure(tools, signal));
    }
  }

  private async judgeOther(
    other: string,
    { state, seen, session }: { state: SlotState; seen: { told: boolean }; session: Session },
    disk: DiskSpace | undefined,
  ): Promise<void> {
    const what = `the server keeps ${formatBytes(keptBytes(state))} of WAL for the replication slot ${other}`;
    const unused = 'Another Lifeboat, if there is one, is not connected';
    if (judgeSlot(state, disk)?.level === 'drop') {
      await dropSlot(session, other);
      this.others.delete(other);
      const message = `${what}, which nobody used for an hour, so Lifeboat dropped the slot`;
      this.alarm(new LifeboatError('WAL_BEHIND', message, { hint: `${unused}. It starts over with a new slot.` }));
    } else if (!seen.told) {
      seen.told = true;
      const hint = `${unused}. If no other Lifeboat uses the slot, run SELECT pg_drop_replication_slot('${other}');`;
      this.alarm(new LifeboatError('WAL_BEHIND', what, { hint }));
    }
  }

  private async measure(tools: Tools, signal: AbortSignal): Promise<DiskSpace | undefined> {
    if (!this.disk || performance.now() - this.disk.at > DISK_MS)
      this.disk = { at: performance.now(), space: await walDisk(tools, signal) };
    return this.disk.space;
  }
}
