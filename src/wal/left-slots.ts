import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { WAL_RUN } from '../docker/helper-labels.ts';
import type { Plan, PostgresSource, Problem } from '../plan/model.ts';
import { walDisk } from '../sources/postgres/facts/disk.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import { dropSlot, readSlot } from '../sources/postgres/wal/slot.ts';
import type { ReceiverDeps } from './receiver-deps.ts';
import type { SlotRecord } from './receiver-state.ts';
import { judgeSlot } from './slot-watch.ts';

/** A slot stays for this time after its source has lost its label, milliseconds: the label may come back. */
const GRACE_MS = 60 * 60_000;
/** The pause after a failed attempt to drop a slot, milliseconds. */
const AGAIN_MS = 5 * 60_000;

interface LeftSlotsDeps extends Pick<ReceiverDeps, 'project' | 'memory' | 'now' | 'openTools'> {
  log: Log;
  /** Finds the running container of a name. */
  find(containerName: string): Promise<Pick<PostgresSource, 'containerId' | 'imageId'> | undefined>;
}

/** `unknown`: the server has no such slot. */
type Outcome = 'dropped' | 'stays' | 'unknown';

/**
 * Finds replication slots that nobody uses any more, because their source has lost its label. Drops each after a grace
 * period, or at once if the server keeps too much WAL for it.
 */
export class LeftSlots {
  private readonly deps: LeftSlotsDeps;
  /** slots and containers whose server has no such slot */
  private readonly without = new Set<string>();

  constructor(deps: LeftSlotsDeps) {
    this.deps = deps;
  }

  /**
   * Compares the slots that this agent has created with the plan. Never rejects.
   *
   * @returns when to look again, milliseconds from now; undefined if no slot is left
   */
  async check(plan: Plan, signal: AbortSignal): Promise<number | undefined> {
    const { memory, log } = this.deps;
    try {
      const records = await memory.slots();
      if (records.length === 0) return undefined;
      const wanted = new Set(plan.sources.filter(({ kind }) => kind === 'base').map(({ name }) => name));
      const judged = await Promise.all(
        records.map(async (record) => {
          const { leftSince, ...rest } = record;
          // A container that does not run says nothing about its labels.
          if (wanted.has(`${record.source}.base`) || plan.stopped?.[record.source]) return rest;
          // The grace period begins again as long as a label may only be hidden.
          const since = plan.unreadLabels ? undefined : leftSince;
          return this.judge({ ...rest, leftSince: since ?? this.deps.now().toISOString() }, plan, signal);
        }),
      );
      const remaining = judged.filter((one) => one !== undefined);
      if (JSON.stringify(remaining) !== JSON.stringify(records)) {
        const known = new Set(records.map(({ slot }) => slot));
        await memory.updateSlots((all) => [...all.filter(({ slot }) => !known.has(slot)), ...remaining]);
      }
      return this.next(remaining);
    } catch (error) {
      log.warn('replication slots that nobody uses could not be looked for', { ...errorInfo(error) });
      return AGAIN_MS;
    }
  }

  /** Returns the record of a slot that stays, or undefined once the slot is gone. */
  private async judge(record: SlotRecord, plan: Plan, signal: AbortSignal): Promise<SlotRecord | undefined> {
    const { deps } = this;
    const info = { source: record.source, slot: record.slot };
    const servers = await this.serversOf(record, plan);
    for (const server of servers) {
      const key = keyOf(record, server);
      if (this.without.has(key)) continue;
      try {
        const outcome = await this.judgeOn(server, record, signal);
        if (outcome === 'dropped') {
          deps.log.info('dropped a replication slot, because its source has no label for it any more', info);
          return undefined;
        }
        if (outcome === 'stays') return record;
        // The server of the source is there, and has no such slot.
        if (server.containerName === record.server.containerName) return undefined;
        this.without.add(key);
      } catch (error) {
        // Another server may have the slot.
        deps.log.warn('a replication slot that nobody uses could not be dropped', { ...info, ...errorInfo(error) });
        if (signal.aborted) return record;
      }
    }
    const isSearched = servers.length > 0 && Object.keys(plan.stopped ?? {}).length === 0;
    const isNowhere = servers.every((server) => this.without.has(keyOf(record, server)));
    if (!isSearched || !isNowhere || this.dueIn(record) > 0) return record;
    deps.log.info('forgot a replication slot: its server is gone, and no other one has it', info);
    return undefined;
  }

  private async judgeOn(server: PostgresSource, record: SlotRecord, signal: AbortSignal): Promise<Outcome> {
    const { deps } = this;
    const application = applicationName(deps.project, WAL_RUN);
    const tools = await deps.openTools(server, {
      ...{ application, runId: WAL_RUN, withData: true, recordHelper: () => undefined, signal },
    });
    try {
      const session = await tools.control();
      const state = await readSlot(session, record.slot);
      if (!state.slot) return 'unknown';
      if (this.dueIn(record) > 0 && judgeSlot(state, await walDisk(tools, signal))?.level !== 'drop') return 'stays';
      await dropSlot(session, record.slot);
      return 'dropped';
    } finally {
      await tools.close();
    }
  }

  /**
   * Returns the servers that may have a slot: that of its source, or else, if its container is gone, each one. After
   * its service was renamed, the server has another name.
   */
  private async serversOf({ source, server }: SlotRecord, { sources }: Plan): Promise<PostgresSource[]> {
    const planned = sources.filter((one) => one.kind === 'postgres');
    const own = planned.find(({ name }) => name === source);
    if (own) return [own];
    const found = await this.deps.find(server.containerName);
    return found ? [{ ...server, ...found }] : planned;
  }

  private dueIn({ leftSince }: SlotRecord): number {
    return leftSince === undefined ? 0 : Date.parse(leftSince) + GRACE_MS - this.deps.now().getTime();
  }

  private next(records: readonly SlotRecord[]): number | undefined {
    const left = records.filter(({ leftSince }) => leftSince !== undefined);
    if (left.length === 0) return undefined;
    return Math.max(AGAIN_MS, Math.min(...left.map((one) => this.dueIn(one))));
  }
}

function keyOf({ slot }: SlotRecord, { containerId, containerName }: PostgresSource): string {
  return JSON.stringify([slot, containerId ?? containerName]);
}

/** Returns the slots that are left over, as problems for people. */
export function leftSlotProblems(records: readonly SlotRecord[]): Problem[] {
  return records.flatMap(({ slot, source, leftSince }) => {
    if (leftSince === undefined) return [];
    const at = new Date(Date.parse(leftSince) + GRACE_MS).toISOString().slice(0, 16).replace('T', ' ');
    return [
      {
        severity: 'warning' as const,
        code: 'WAL_BEHIND' as const,
        subject: source,
        message: `the server keeps WAL for the replication slot ${slot}, although ${source} has no lifeboat.postgres.pitr any more`,
        hint: `Lifeboat drops the slot after ${at}Z. To drop it now, run SELECT pg_drop_replication_slot('${slot}');`,
      },
    ];
  });
}
