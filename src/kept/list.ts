import { unlessAborted } from '../base/abort.ts';
import type { Plan, PostgresSource, VolumeSource } from '../plan/model.ts';
import { formatAgo, formatBytes } from '../report/format.ts';
import type { Rollback, State } from '../run/state.ts';
import { readDatabases } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { isKnown, type KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import { areaName } from '../store/filesystem/area.ts';
import { asFound, namesOf, type Present, withServerTools } from './databases.ts';
import { restoreTarget } from './target.ts';
import { areaOf, asInVolume, knownAreas } from './volume-records.ts';

/** A restore whose put-aside data still exists. */
export interface KeptRestore extends Rollback {
  /** size of the data that is not in use, bytes; undefined if it is not known now */
  bytes?: number;
  /** the deletion of the data was interrupted */
  forgotten?: true;
  /** the data is not as Lifeboat left it: why, for a message */
  refused?: string;
}

/** Reads the areas in a volume. `known`: the recorded ones. */
type ReadAreas = (source: VolumeSource, signal: AbortSignal, known: KnownArea[]) => Promise<VolumeArea[]>;

/** How long one server or volume may take to answer, milliseconds. */
const LIMIT_MS = 10_000;

/**
 * Lists the restores that can be rolled back, newest first, with the size of their put-aside data. Queries each server
 * once, and none if there is no such restore. For a server that does not answer, returns the agent's own records.
 * Changes nothing: the holder of the lock removes records of data that no longer exists.
 */
export async function listKeptRestores(
  deps: { state: Pick<State, 'rollbacks'>; plan(): Promise<Plan> },
  openTools: (source: PostgresSource, signal: AbortSignal) => Promise<Tools>,
  areasOf: ReadAreas,
): Promise<KeptRestore[]> {
  const all = (await deps.state.rollbacks()).toReversed();
  const sources = [...new Set(all.flatMap(({ source, databases }) => (databases ? [source] : [])))];
  const found = new Map<string, Present>();
  await Promise.all(
    sources.map(async (source) => {
      const names = namesOf(all.filter((one) => one.source === source));
      const signal = AbortSignal.timeout(LIMIT_MS);
      const open = (planned: PostgresSource) => openTools(planned, signal);
      const asked = withServerTools(deps, source, open, async (tools) => readDatabases(await tools.control(), names));
      await unlessAborted(asked, signal).then(
        (present) => found.set(source, present),
        () => undefined,
      );
    }),
  );
  const areas = await readAreas(deps, all, areasOf);
  return all.flatMap((one): KeptRestore[] => {
    if (one.volume) return inVolume(one, areas.get(one.source));
    const present = found.get(one.source);
    if (!one.databases || !present) return [one];
    const now = asFound(one, present);
    if (!now) return [];
    return [{ ...now, bytes: one.databases.reduce((sum, { before }) => sum + (present.get(before)?.bytes ?? 0), 0) }];
  });
}

/** Reads the put-aside areas in volumes, by source. A volume that cannot be read is left out. */
async function readAreas(
  deps: { plan(): Promise<Plan> },
  all: readonly Rollback[],
  areasOf: ReadAreas,
): Promise<Map<string, VolumeArea[]>> {
  const sources = [...new Set(all.flatMap(({ source, volume }) => (volume ? [source] : [])))];
  const found = new Map<string, VolumeArea[]>();
  const read = async (source: string) => {
    const planned = await restoreTarget(deps, source, 'volume');
    found.set(source, await areasOf(planned, AbortSignal.timeout(LIMIT_MS), knownAreas(all, source)));
  };
  await Promise.allSettled(sources.map(read));
  return found;
}

function inVolume(one: Rollback, areas: readonly VolumeArea[] | undefined): KeptRestore[] {
  if (!areas) return [one];
  const now = asInVolume(one, areas);
  if (!now) return [];
  const { bytes, refused } = areaOf(one, areas) ?? {};
  if (refused !== undefined) return [{ ...now, refused }];
  const forgotten = one.volume && isKnown(one.volume) && one.volume.forgotten;
  return [{ ...now, ...(bytes === undefined ? {} : { bytes }), ...(forgotten ? { forgotten } : {}) }];
}

/** Formats one line for each restore, for `lifeboat status`. */
export function keptLines(held: readonly KeptRestore[], now: Date): string[] {
  return held.map(({ id, at, source, bytes, inUse, forgotten, refused, volume }) => {
    const size = bytes === undefined ? '' : `, ${formatBytes(bytes)}`;
    const what = inUse === 'restored' ? 'replaced data kept' : 'rolled back, restored data kept';
    const line = `${source} restored ${formatAgo(new Date(at), now)} (${id})`;
    if (refused !== undefined)
      return `${line}: put-aside data not recognised, because ${areaName('before', volume?.area ?? id)} has changed: ${refused}; \`lifeboat rollback ${id}\` says what to do`;
    if (forgotten)
      return `${line}: deletion interrupted${size} left; \`lifeboat rollback ${id} --forget\` completes it`;
    return `${line}: ${what}${size}`;
  });
}
