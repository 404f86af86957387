import { unlessAborted } from '../base/abort.ts';
import type { Plan, PostgresSource, VolumeSource } from '../plan/model.ts';
import { formatAgo, formatBytes } from '../report/format.ts';
import type { Rollback, State } from '../run/state.ts';
import { readDatabases } from '../sources/postgres/load/swap.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';
import type { VolumeArea } from '../store/exchange/volume-areas.ts';
import { asFound, namesOf, type Present, withServer } from './databases.ts';
import { restoreTarget } from './target.ts';
import { asInVolume } from './volumes.ts';

/** One restore whose replaced data is still there, with what it holds. */
export interface KeptRestore extends Rollback {
  /** bytes of the data that is not in use; undefined where it cannot be told now */
  bytes?: number;
}

/** How long looking may take for one server, milliseconds. */
const LIMIT_MS = 10_000;

/**
 * The restores that can be rolled back, with the space that their unused data holds, newest first. Each server is asked
 * once, and none when nothing is kept; of one that does not answer, what is remembered is shown. Only looks: what is not
 * there any more is forgotten by whoever holds the lock.
 */
export async function listKeptRestores(
  deps: { state: Pick<State, 'rollbacks'>; plan(): Promise<Plan> },
  openTools: (source: PostgresSource, signal: AbortSignal) => Promise<Tools>,
  areasOf: (source: VolumeSource, signal: AbortSignal) => Promise<VolumeArea[]>,
): Promise<KeptRestore[]> {
  const all = (await deps.state.rollbacks()).toReversed();
  const sources = [...new Set(all.flatMap(({ source, databases }) => (databases ? [source] : [])))];
  const found = new Map<string, Present>();
  await Promise.all(
    sources.map(async (source) => {
      const names = namesOf(all.filter((one) => one.source === source));
      const signal = AbortSignal.timeout(LIMIT_MS);
      const open = (planned: PostgresSource) => openTools(planned, signal);
      const asked = withServer(deps, source, open, async (tools) => readDatabases(await tools.control(), names));
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

/** The areas in the volumes of the sources that have any, as far as they can be told. */
async function readAreas(
  deps: { plan(): Promise<Plan> },
  all: readonly Rollback[],
  areasOf: (source: VolumeSource, signal: AbortSignal) => Promise<VolumeArea[]>,
): Promise<Map<string, VolumeArea[]>> {
  const sources = [...new Set(all.flatMap(({ source, volume }) => (volume ? [source] : [])))];
  const found = new Map<string, VolumeArea[]>();
  const read = async (source: string) => {
    const planned = await restoreTarget(deps, source, 'volume');
    found.set(source, await areasOf(planned, AbortSignal.timeout(LIMIT_MS)));
  };
  await Promise.allSettled(sources.map(read));
  return found;
}

function inVolume(one: Rollback, areas: readonly VolumeArea[] | undefined): KeptRestore[] {
  if (!areas) return [one];
  const now = asInVolume(one, areas);
  if (!now) return [];
  return [{ ...now, bytes: areas.find(({ restore }) => restore === one.id)?.bytes ?? 0 }];
}

/** One line for each, for `lifeboat status`. */
export function keptLines(held: readonly KeptRestore[], now: Date): string[] {
  return held.map(({ id, at, source, bytes, inUse }) => {
    const size = bytes === undefined ? '' : `, ${formatBytes(bytes)}`;
    const what = inUse === 'restored' ? 'replaced data kept' : 'rolled back, restored data kept';
    return `${source} restored ${formatAgo(new Date(at), now)} (${id}): ${what}${size}`;
  });
}
