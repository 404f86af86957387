import path from 'node:path';
import type { Plan, PlannedSource } from '../plan/model.ts';
import { baseName } from '../plan/postgres.ts';
import { lastGoodOf } from '../run/history.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { openReceiverMemory } from '../wal/receiver-state.ts';
import { judgeTargets, type TargetState } from './judge.ts';
import { lastMeasured, type Measurement } from './measured.ts';

/** The targets of one source, and whether they are met. */
export interface SourceTargets {
  name: string;
  targets: TargetState[];
  /** ISO time of its last good snapshot */
  lastGood?: string;
}

/** The last good snapshot of each source, ISO times. */
export type LastGoods = Readonly<Record<string, string>>;

/**
 * Returns the last good snapshot of each source in snapshots. One that holds only a part of a source is not good.
 *
 * @param manifests newest first
 */
export function lastGoods(plan: Plan, manifests: readonly Manifest[]): LastGoods {
  return Object.fromEntries(
    plan.sources.flatMap(({ name }) => {
      const good = lastGoodOf(manifests, name);
      return good?.entry.status === 'ok' ? [[name, good.at]] : [];
    }),
  );
}

/** Returns whether a source has a target. */
export function hasTarget({ kind, rpoMs, rtoMs }: PlannedSource): boolean {
  return kind !== 'base' && (rpoMs !== undefined || rtoMs !== undefined);
}

/**
 * Judges the targets of all sources of a plan.
 *
 * @param directory of the state, where receivers and restores note what they measure
 * @param goods the last good snapshots, see {@link lastGoods}
 * @param seen since when the agent knows each source, ISO times; a source that is not listed was seen now
 * @returns the sources that have a target
 */
export async function collectTargets(
  { plan, directory, goods, seen = {} }: { plan: Plan; directory: string; goods: LastGoods; seen?: LastGoods },
  now: Date,
): Promise<SourceTargets[]> {
  const wanted = plan.sources.filter(hasTarget);
  if (wanted.length === 0) return [];
  const memory = openReceiverMemory(directory);
  const measured = await lastMeasured(directory).catch((): Record<string, Measurement> => ({}));
  return Promise.all(
    wanted.map(async (source) => {
      const { name } = source;
      const isRecoverable = plan.sources.some((one) => one.kind === 'base' && one.server === name);
      const known = {
        lastGood: goods[name],
        seen: seen[name] ?? now.toISOString(),
        ...(isRecoverable
          ? { receiver: await memory.state(name).catch(() => undefined), hasBase: goods[baseName(name)] !== undefined }
          : {}),
        measured: measured[name],
      };
      const lastGood = goods[name] === undefined ? {} : { lastGood: goods[name] };
      return { name, targets: judgeTargets(source, known, now), ...lastGood };
    }),
  );
}

/** The first sight and the last good snapshot of each source, by its name, as ISO times. */
export interface Remembered {
  seen: Record<string, string>;
  goods: Record<string, string>;
}

const fileIn = (directory: string) => path.join(directory, 'targets.json');

/** Reads what the daemon remembers of the sources. `directory`: of the state. */
export async function readRemembered(directory: string): Promise<Remembered> {
  return (await readJson<Remembered>(fileIn(directory))) ?? { seen: {}, goods: {} };
}

/** Replaces what the daemon remembers. @throws SPOOL_FULL */
export async function saveRemembered(directory: string, remembered: Remembered): Promise<void> {
  await writeJson(fileIn(directory), remembered);
}

/**
 * Judges the targets for a command, as the daemon last saw the sources.
 *
 * @param manifests newest first; undefined if the destination cannot be read: the daemon's memory counts then
 */
export async function readTargets(
  { plan, directory, manifests }: { plan: Plan; directory: string; manifests: readonly Manifest[] | undefined },
  now: Date,
): Promise<SourceTargets[]> {
  const { seen, goods } = await readRemembered(directory).catch((): Remembered => ({ seen: {}, goods: {} }));
  return collectTargets({ plan, directory, goods: manifests ? lastGoods(plan, manifests) : goods, seen }, now);
}
