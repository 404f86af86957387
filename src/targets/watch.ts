import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Plan } from '../plan/model.ts';
import type { RunEvent } from '../report/events.ts';
import { formatAge } from '../report/format.ts';
import type { State } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { openReceiverMemory, type ReceiverState } from '../wal/receiver-state.ts';
import type { Alarms, NewAlarm } from './alarms.ts';
import {
  collectTargets,
  hasTarget,
  type LastGoods,
  lastGoods,
  type Remembered,
  readRemembered,
  type SourceTargets,
  saveRemembered,
} from './collect.ts';
import { nextCommand, type TargetState } from './judge.ts';

/** The time between two listings of the snapshots while no run ends, milliseconds. */
const LIST_MS = 60 * 60_000;
/** After a listing that failed, the next one comes this much later, milliseconds. */
const LIST_AGAIN_MS = 5 * 60_000;
/** The time between two reports that WAL is received, milliseconds. */
const WAL_MS = 5 * 60_000;
/** A target that is missed for a shorter time is no alarm: a slow request is over sooner. Milliseconds. */
const SETTLE_MS = 60_000;

/** Dependencies of {@link createTargetWatch}. */
interface WatchDeps {
  state: Pick<State, 'lastRun' | 'directory'>;
  /** Lists the snapshots, newest first. @throws DEST_* */
  manifests(): Promise<Manifest[]>;
  /** Fills the memory of measured restores, if it is empty. @throws DEST_* */
  recall(): Promise<void>;
  alarms: Alarms;
  emit(event: RunEvent): void;
  log: Log;
  now(): Date;
}

/** Judges the targets of all sources again and again, and gives an alarm when one is missed. */
export interface TargetWatch {
  /** Called each minute. Never rejects. */
  check(plan: Plan): Promise<void>;
}

/** Creates the watch of the daemon. It lists the snapshots after each run and once an hour, not each minute. */
export function createTargetWatch(deps: WatchDeps): TargetWatch {
  return new Watch(deps);
}

class Watch implements TargetWatch {
  private readonly deps: WatchDeps;
  private listed: { run: string | undefined; at: number } | undefined;
  private walAt = Number.NEGATIVE_INFINITY;
  private checking: Promise<void> | undefined;
  private isRecalled = false;

  constructor(deps: WatchDeps) {
    this.deps = deps;
  }

  check(plan: Plan): Promise<void> {
    const { alarms, log } = this.deps;
    this.checking ??= (async () => {
      // The trouble of a stopped database goes on.
      alarms.endOthers([...plan.sources.map(({ name }) => name), ...Object.keys(plan.stopped ?? {})]);
      await this.reportWal(plan);
      await this.judge(plan);
    })()
      .catch((error: unknown) => log.warn('the targets cannot be judged', { ...errorInfo(error) }))
      .finally(() => {
        this.checking = undefined;
      });
    return this.checking;
  }

  private async reportWal(plan: Plan): Promise<void> {
    const names = plan.sources.flatMap((one) => (one.kind === 'base' ? [one.server] : []));
    if (names.length === 0 || performance.now() - this.walAt < WAL_MS) return;
    this.walAt = performance.now();
    const memory = openReceiverMemory(this.deps.state.directory);
    const states = await Promise.all(names.map((name) => memory.state(name).catch(() => undefined)));
    const failing = names.filter((_, i) => isFailing(states[i], this.deps.now()));
    // A receiver that has just begun says nothing yet.
    if (failing.length > 0 || states.every((one) => one?.state === 'receiving'))
      this.deps.emit({ type: 'wal-seen', sources: names, failing });
  }

  private async judge(plan: Plan): Promise<void> {
    const { state, alarms, now } = this.deps;
    await this.recall(plan);
    const needed = plan.sources.some(hasTarget);
    const known = needed ? await this.remember(plan) : { seen: {}, goods: {} };
    const all = await collectTargets({ plan, directory: state.directory, ...known }, now());
    for (const kind of ['rpo', 'rto'] as const) {
      for (const { name } of plan.sources) {
        const source = all.find((one) => one.name === name);
        const target = source?.targets.find((one) => one.kind === kind);
        if (!source || target?.met !== false) alarms.end(kind, name);
        else if (isSettled(target, now())) alarms.raise(alarmOf(source, target, now()));
      }
    }
  }

  private async recall(plan: Plan): Promise<void> {
    if (this.isRecalled || !plan.sources.some(({ rtoMs }) => rtoMs !== undefined)) return;
    try {
      await this.deps.recall();
      this.isRecalled = true;
    } catch (error) {
      this.deps.log.debug('the records of restores cannot be read', { ...errorInfo(error) });
    }
  }

  /** Returns what is known of each source: since when, and its last good snapshot. */
  private async remember(plan: Plan): Promise<Remembered> {
    const { state, now } = this.deps;
    const before = await readRemembered(state.directory);
    // A database that is stopped for a while is not a new source when it runs again.
    const names = [...plan.sources.map(({ name }) => name), ...Object.keys(plan.stopped ?? {})];
    const seen = Object.fromEntries(names.map((name) => [name, before.seen[name] ?? now().toISOString()]));
    const known = Object.entries({ ...before.goods, ...(await this.list(plan)) });
    const goods = Object.fromEntries(known.filter(([name]) => names.includes(name)));
    const after = { seen, goods };
    if (JSON.stringify(before) !== JSON.stringify(after)) await saveRemembered(state.directory, after);
    return after;
  }

  private async list(plan: Plan): Promise<LastGoods> {
    const { state, manifests, log } = this.deps;
    const run = (await state.lastRun().catch(() => undefined))?.id;
    const { listed } = this;
    if (listed && listed.run === run && performance.now() - listed.at < LIST_MS) return {};
    this.listed = { run, at: performance.now() };
    try {
      return lastGoods(plan, await manifests());
    } catch (error) {
      // The known facts stay true: a snapshot only gets older. A newer one must not be missed for an hour.
      this.listed.at += LIST_AGAIN_MS - LIST_MS;
      log.debug('the snapshots cannot be listed for the targets', { ...errorInfo(error) });
      return {};
    }
  }
}

/** A receiver that hangs reports nothing, so its last report says nothing. */
function isFailing(one: ReceiverState | undefined, now: Date): boolean {
  if (one?.state !== 'receiving') return one?.state === 'failed';
  return one.at === undefined || Math.abs(now.getTime() - Date.parse(one.at)) > WAL_MS;
}

function isSettled({ kind, since }: TargetState, now: Date): boolean {
  return kind === 'rto' || since === undefined || now.getTime() - Date.parse(since) >= SETTLE_MS;
}

function alarmOf({ name, lastGood }: SourceTargets, target: TargetState, now: Date): NewAlarm {
  const age = lastGood === undefined ? undefined : formatAge(now.getTime() - Date.parse(lastGood));
  const safe =
    age === undefined ? 'nothing is stored of this source yet' : `${name}: the last good snapshot is ${age} old`;
  const { kind, why = '' } = target;
  const what = kind === 'rpo' ? 'the target for lost work is not met' : 'the target for recovery is not met';
  return {
    topic: kind,
    source: name,
    error: { code: kind === 'rpo' ? 'RPO_MISSED' : 'RTO_MISSED', message: `${what}: ${why}` },
    safe,
    next: `docker compose exec lifeboat ${nextCommand(name, target)}`,
  };
}
