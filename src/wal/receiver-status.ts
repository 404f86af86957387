import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { BaseSource } from '../plan/model.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import type { Confirmed } from '../store/wal/coverage.ts';
import { formatLsn } from '../store/wal/names.ts';
import type { LogEnd, RememberedWal } from '../store/wal/remembered.ts';
import type { ReceiverDeps } from './receiver-deps.ts';
import { type ReceiverState, rememberedOf } from './receiver-state.ts';
import { positions } from './slot-watch.ts';

/** The state is saved at most this often while nothing changes, milliseconds. */
const SAVE_MS = 10_000;
/** A failure that lasts this long is an alarm, milliseconds. A restart of the server is over sooner. */
const ALARM_MS = 60_000;

/** The end of what is stored, see `Shipped` in shipping.ts. */
interface StoredEnd {
  stored?: bigint;
  confirmed?: Confirmed;
  logged?: LogEnd;
}

type StatusDeps = Pick<ReceiverDeps, 'memory' | 'log' | 'now' | 'alarm' | 'alarmOver'>;

/**
 * The status of a receiver, for other commands and for people: saves each change, logs when the receiver begins to
 * receive or fails, and gives an alarm for a failure that lasts.
 */
export class ReceiverStatus {
  private readonly deps: StatusDeps;
  private readonly source: string;
  private state: ReceiverState;
  private savedAt = 0;
  private saved = '';
  /** when the present failure began, by `performance.now()` */
  private failing: number | undefined;
  private alarmed = false;
  /** the last attempt to store WAL succeeded */
  private isStoring = false;

  constructor(deps: StatusDeps, { server, containerName }: BaseSource) {
    this.deps = deps;
    this.source = server;
    this.state = { slot: '', containerName, state: 'starting', since: deps.now().toISOString() };
  }

  /** Continues with what the last receiver of this source knew. Never rejects. */
  async remember(): Promise<void> {
    const former = await this.deps.memory.state(this.source).catch(() => undefined);
    if (!former) return;
    const { slot, systemId, timeline, confirmed, stored, logged, diverged } = former;
    this.state = { ...this.state, slot, ...given({ systemId, timeline, confirmed, stored, logged, diverged }) };
  }

  /** Returns whether the last receiver received the WAL of the server with this id. */
  isOf(systemId: string): boolean {
    return this.state.systemId === systemId;
  }

  /** The stored WAL, as far as the agent remembers it. */
  get remembered(): RememberedWal | undefined {
    return rememberedOf(this.state);
  }

  /** Notes the server that was reached. */
  async connected(systemId: string, slot: string, timeline: number): Promise<void> {
    const { confirmed, stored, logged, ...rest } = this.state;
    const known = this.isOf(systemId) ? given({ confirmed, stored, logged }) : {};
    await this.save({ ...rest, ...known, systemId, slot, timeline });
  }

  /** Why the WAL that follows begins another history; undefined: it goes on. */
  get diverged(): LifeboatError | undefined {
    const { diverged } = this.state;
    return diverged && new LifeboatError(diverged.code, diverged.message, given({ hint: diverged.hint }));
  }

  /** Remembers that another history begins, until it has begun. Never rejects. */
  async diverge(error: LifeboatError): Promise<void> {
    if (this.state.diverged?.message === error.message) return;
    await this.save({ ...this.state, diverged: errorInfo(error) }).catch(() => undefined);
  }

  /** Forgets what is stored of the server, which went back to older data. */
  async begunAnew(): Promise<void> {
    const { confirmed: _, stored: __, diverged: ___, ...rest } = this.state;
    await this.save(rest);
  }

  /** Notes that everything that was received is stored, or a part of it. */
  async stored(state: SlotState, shipped: StoredEnd): Promise<void> {
    const stored = shipped.stored === undefined ? undefined : formatLsn(shipped.stored);
    const { confirmed, logged } = shipped;
    this.isStoring = true;
    await this.followed(state, given({ stored, confirmed, logged }));
  }

  /**
   * Notes a look at the server. WAL is received if the last attempt to store it succeeded, and the receiver reports how
   * far its files reach: a receiver that ends after each start reports nothing.
   */
  async followed(state: SlotState, more: Partial<ReceiverState> = {}): Promise<void> {
    const isReceiving = this.isStoring && state.slot?.active === true && state.slot.reported === true;
    if (!isReceiving) return this.save({ ...this.state, ...positions(state), ...more });
    const isNew = this.state.state !== 'receiving';
    if (isNew) this.deps.log.info('receiving the WAL of a database', { source: this.source });
    const { error: _, ...rest } = this.state;
    this.failing = undefined;
    this.alarmed = false;
    // An earlier agent may have given the alarm.
    if (isNew) this.deps.alarmOver(this.source);
    const since = isNew ? this.deps.now().toISOString() : this.state.since;
    await this.save({ ...rest, ...positions(state), ...more, state: 'receiving', since });
  }

  /**
   * Notes why nothing is received or stored now. Never rejects.
   *
   * @param lasted since when it fails already, milliseconds
   */
  async failed(error: unknown, lasted = 0): Promise<void> {
    const info = errorInfo(error);
    const { state, since, error: former } = this.state;
    if (state !== 'failed' || former?.message !== info.message)
      this.deps.log.error('the WAL of a database is not received; trying again', { source: this.source, ...info });
    this.isStoring = false;
    this.failing = Math.min(this.failing ?? Number.POSITIVE_INFINITY, performance.now() - lasted);
    if (!this.alarmed && performance.now() - this.failing >= ALARM_MS) {
      this.alarmed = true;
      this.deps.alarm('wal', this.source, { ...info, message: `the WAL is not received or stored: ${info.message}` });
    }
    const from = state === 'failed' ? since : this.deps.now().toISOString();
    await this.save({ ...this.state, state: 'failed', since: from, error: info }).catch(() => undefined);
  }

  private async save(state: ReceiverState): Promise<void> {
    this.state = state;
    const { at: _, confirmed, ...lasting } = state;
    const text = JSON.stringify({ ...lasting, lsn: confirmed?.lsn });
    if (text === this.saved && performance.now() - this.savedAt < SAVE_MS) return;
    await this.deps.memory.saveState(this.source, state);
    this.saved = text;
    this.savedAt = performance.now();
  }
}

/** Returns the members that are not undefined. */
function given<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
