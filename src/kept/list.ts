import { unlessAborted } from '../base/abort.ts';
import { hasCode } from '../base/errors.ts';
import type { Plan, PostgresSource, VolumeSource } from '../plan/model.ts';
import { formatAgo, formatBytes } from '../report/format.ts';
import { seenStrays } from '../run/aside-warnings.ts';
import type { Rollback, State } from '../run/state.ts';
import { readDatabases } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import { isKnown, type KnownArea } from '../store/exchange/known-area.ts';
import type { VolumeArea } from '../store/exchange/list-areas.ts';
import { areaName, DATA_ROOT } from '../store/filesystem/area.ts';
import { keptName, WHY_MISSING } from './choose.ts';
import { volumeOf, volumesOf } from './data-directory.ts';
import { asFound, isInsideAside, namesOf, type Present, withServerTools } from './databases.ts';
import { areaOf, asInVolume, knownAreas, recordPlace, recordsOf, strayAreas } from './volume-records.ts';

/** A restore whose old data still exists, as far as that is known. */
interface KeptRestore extends Rollback {
  /** size of the data that is not in use, bytes; undefined if it is not known now */
  bytes?: number;
  /** the deletion of the data was interrupted */
  forgotten?: true;
  /** the data is not as Lifeboat left it: why, for a message */
  refused?: string;
  /** the data is not found: why, for a message */
  missing?: string;
}

/** A directory in a volume that is named like old data, but that Lifeboat has no record of and cannot verify. */
interface StrayArea {
  source: string;
  /** its name at the top of the volume */
  name: string;
  /** why it is not verified, for a message */
  why: string;
}

/** The old data of all sources. */
export interface KeptData {
  /** newest first */
  restores: KeptRestore[];
  stray: StrayArea[];
}

/** Reads the areas in a volume. `known`: the recorded ones. */
type ReadAreas = (source: VolumeSource, signal: AbortSignal, known: KnownArea[]) => Promise<VolumeArea[]>;

interface ListDeps {
  state: Pick<State, 'directory' | 'rollbacks' | 'hasRollbacks'>;
  plan(): Promise<Plan>;
  /** returns the IDs of the restores and rollbacks that have not ended */
  open(): Promise<ReadonlySet<string>>;
}

/** The most time that one server or volume gets to answer, milliseconds. */
const LIMIT_MS = 10_000;

/**
 * Lists the old data of restores, with its size. Queries each server once, and none if there is no such restore.
 * Of a server or volume that does not answer, returns the agent's own records. Reads a volume without a record only if
 * the last backup saw old data there, or if there was no backup of it yet: then the spool may have been lost.
 * Changes nothing: the holder of the lock corrects records.
 */
export async function listKept(
  deps: ListDeps,
  openTools: (source: PostgresSource, signal: AbortSignal) => Promise<Tools>,
  areasOf: ReadAreas,
): Promise<KeptData> {
  const all = (await deps.state.rollbacks()).toReversed();
  const gone = new Map<string, string>();
  const noteGone = (source: string) => (error: unknown) => {
    if (hasCode(error, 'SOURCE_UNKNOWN')) gone.set(source, error.message);
  };
  const sources = [...new Set(all.flatMap(({ source, databases }) => (databases ? [source] : [])))];
  const found = new Map<string, Present>();
  const listing = sources.map(async (source) => {
    const names = namesOf(all.filter((one) => one.source === source));
    const signal = AbortSignal.timeout(LIMIT_MS);
    const open = (planned: PostgresSource) => openTools(planned, signal);
    const asked = withServerTools(deps, source, open, async (tools) => readDatabases(await tools.control(), names));
    await unlessAborted(asked, signal).then((present) => found.set(source, present), noteGone(source));
  });
  const areas = new Map<string, { planned: VolumeSource; list: VolumeArea[] }>();
  const reading = (await volumesToRead(deps, all)).map(async (source) => {
    const read = async () => {
      const record = all.find((one) => one.source === source && one.volume) ?? { source };
      const planned = await volumeOf(deps, record);
      const list = await areasOf(planned, AbortSignal.timeout(LIMIT_MS), knownAreas(all, source));
      areas.set(source, { planned, list });
    };
    await read().catch(noteGone(source));
  });
  await Promise.all([...listing, ...reading]);
  const rebuilt = [...areas.values()]
    .flatMap(({ planned, list }) => recordsOf(recordPlace(planned), list, all))
    .toReversed();
  const restores = [...all, ...rebuilt].flatMap((one): KeptRestore[] => {
    const missing = gone.get(one.source);
    if (missing !== undefined) return [{ ...one, missing }];
    if (one.volume) return inVolume(one, areas.get(one.source)?.list);
    const present = found.get(one.source);
    if (!one.databases || !present || isInsideAside(one, all)) return [one];
    const now = asFound(one, present);
    if (!now) return [];
    return [{ ...now, bytes: one.databases.reduce((sum, { before }) => sum + (present.get(before)?.bytes ?? 0), 0) }];
  });
  const open = await deps.open();
  const stray = [...areas].flatMap(([source, { planned, list }]) => {
    const place = planned.mount.directory === undefined ? '' : DATA_ROOT;
    return strayAreas(source, list, { all, open }).map(({ kind, id, unproven }): StrayArea => {
      const why = unproven ?? 'it does not show which restore it belongs to';
      return { source, name: areaName(kind, id, place), why };
    });
  });
  return { restores, stray };
}

/**
 * Returns the sources of volumes that may hold old data: volumes, and servers that may have been recovered in
 * place, because they have base backups.
 */
async function volumesToRead({ state, plan }: ListDeps, records: readonly Rollback[]): Promise<string[]> {
  const recorded = records.flatMap(({ source, volume }) => (volume ? [source] : []));
  const [seen, planned] = await Promise.all([seenStrays(state), plan().catch((): Partial<Plan> => ({}))]);
  const sources = planned.sources ?? [];
  const servers = new Set(sources.flatMap((one) => (one.kind === 'base' ? [one.server] : [])));
  const all = sources.filter((one) => one.kind === 'volume' || servers.has(one.name));
  const others = volumesOf({ sources: all }).filter(({ name }) => seen[name]?.length !== 0);
  return [...new Set([...recorded, ...others.map(({ name }) => name)])];
}

function inVolume(one: Rollback, areas: readonly VolumeArea[] | undefined): KeptRestore[] {
  if (!areas) return [one];
  const now = asInVolume(one, areas);
  if (!now) return [];
  const { bytes = 0, refused, missing } = areaOf(one, areas) ?? {};
  const forgotten = one.volume && isKnown(one.volume) && one.volume.forgotten;
  if (missing !== undefined) return [{ ...now, missing: WHY_MISSING[missing] }];
  if (refused !== undefined) return [{ ...now, refused }];
  return [{ ...now, bytes, ...(forgotten ? { forgotten } : {}) }];
}

/** Formats one line for each restore and each stray area, for `lifeboat status`. */
export function keptLines({ restores, stray }: KeptData, now: Date): string[] {
  const lines = restores.map((one) => {
    const { id, at, source, bytes, inUse, forgotten, refused, missing } = one;
    const size = bytes === undefined ? '' : `, ${formatBytes(bytes)}`;
    const what = inUse === 'restored' ? 'replaced data kept' : 'rolled back, restored data kept';
    const line = `${source} restored ${formatAgo(new Date(at), now)} (${id})`;
    if (missing !== undefined)
      return `${line}: old data not found, because ${missing}; \`lifeboat rollback ${id} --forget\` removes the record`;
    if (refused !== undefined)
      return `${line}: old data not recognised, because ${keptName(one)} has changed: ${refused}; \`lifeboat rollback ${id}\` says what to do`;
    if (forgotten)
      return `${line}: deletion interrupted${size} left; \`lifeboat rollback ${id} --forget\` completes it`;
    return `${line}: ${what}${size}`;
  });
  const strays = stray.map(
    ({ source, name, why }) =>
      `${source}: ${name} in its volume may be old data, but Lifeboat cannot verify it: ${why}. Inspect it as root, move what you need out of its directory \`tree\`, then delete it`,
  );
  return [...lines, ...strays];
}
