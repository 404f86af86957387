import path from 'node:path';
import { areaName, DATA_ROOT, parseAreaName } from '../store/filesystem/area.ts';
import { openJournals } from './journal.ts';
import type { Rollback, State } from './state.ts';
import { readJson, writeJson } from './state-files.ts';

/** Returns the IDs of the restores and rollbacks that have not ended. `journals`: the directory of their journals. */
export async function openRuns(journals: string): Promise<ReadonlySet<string>> {
  return new Set((await openJournals(journals)).map((file) => path.basename(file, '.ndjson')));
}

/**
 * Returns the names of old data without a record that the last backup of each volume saw, by source. Returns
 * nothing if the records are lost: the names are compared with them.
 */
export async function seenStrays(state: Pick<State, 'directory' | 'hasRollbacks'>): Promise<Record<string, string[]>> {
  if (!(await state.hasRollbacks())) return {};
  return (await readJson<Record<string, string[]>>(path.join(state.directory, STRAY))) ?? {};
}

const STRAY = 'stray-areas.json';

/** The source of a volume that a backup has read. */
interface SeenVolume {
  source: string;
  /** it is the data directory of a server */
  isDataDirectory: boolean;
}

/**
 * Returns the warnings of a backup about old data in a volume, which the backup leaves out. Saves which names no
 * record has, for `lifeboat status`.
 *
 * @param names of areas at the top of the volume
 */
export async function asideWarnings(
  state: Pick<State, 'directory' | 'rollbacks' | 'hasRollbacks' | 'saveRollbacks'>,
  { source, isDataDirectory }: SeenVolume,
  names: readonly string[],
  journals: string,
): Promise<string[]> {
  const open = await openRuns(journals);
  const areas = names.flatMap((name) => parseAreaName(name) ?? []).filter(({ id }) => !open.has(id));
  const all = await state.rollbacks();
  const records = all.filter((one) => one.source === source);
  const recordOf = ({ kind, id }: (typeof areas)[number]) =>
    kind === 'before' ? records.find(({ volume }) => volume?.area === id) : undefined;
  const stray = areas
    .filter((area) => !recordOf(area))
    .map(({ kind, id }) => areaName(kind, id, isDataDirectory ? DATA_ROOT : ''));
  const seen = await seenStrays(state);
  if (!(await state.hasRollbacks())) await state.saveRollbacks(all);
  if (JSON.stringify(seen[source]) !== JSON.stringify(stray))
    await writeJson(path.join(state.directory, STRAY), { ...seen, [source]: stray });
  const only = areas.flatMap((area) => recordOf(area) ?? []);
  // After a rollback, the restored data is put aside, with everything written to it since the restore. The WAL of a
  // server is stored on both sides of a recovery.
  const isUnstored = ({ inUse, safety }: Rollback) => inUse === 'before' || safety === undefined;
  const unstored = isDataDirectory ? [] : only.filter(isUnstored).map(({ id }) => id);
  return [
    ...(unstored.length > 0
      ? [
          `the data that a restore put aside (${unstored.join(', ')}) is not backed up, and no snapshot has it; \`lifeboat rollback ID --forget\` deletes it`,
        ]
      : []),
    ...(stray.length > 0
      ? [
          `not backed up, because a restore put it aside or did not finish it: ${stray.join(', ')}. The spool has no record of it; \`lifeboat status\` says what to do`,
        ]
      : []),
  ];
}
