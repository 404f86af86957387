import path from 'node:path';
import { z } from 'zod';
import { isProof } from '../report/drill-proof.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import { readRecord, restorePrefix } from '../store/objects/records.ts';
import type { Repository } from '../store/repository/repository.ts';

/** The measured duration of a restore of a source. */
export interface Measurement {
  /** id of the restore or drill */
  id: string;
  /** ISO time of its end */
  at: string;
  /** milliseconds from the start of the work until the data could be used */
  durationMs: number;
  by: 'restore' | 'drill';
}

const measurement = z.object({
  id: z.string(),
  at: z.iso.datetime(),
  durationMs: z.number().nonnegative(),
  by: z.enum(['restore', 'drill']),
});
const file = z.record(z.string(), z.partialRecord(z.enum(['restore', 'drill']), measurement));

type Measured = z.infer<typeof file>;

const fileIn = (directory: string) => path.join(directory, 'measured.json');

async function read(directory: string): Promise<Measured> {
  const { data } = file.safeParse(await readJson<unknown>(fileIn(directory)));
  return data ?? {};
}

/**
 * Remembers how long a restore or a drill of whole sources took. Losing the memory loses no backup.
 *
 * @param directory of the state
 * @param sources their names
 * @throws SPOOL_FULL
 */
export async function saveMeasured(
  directory: string,
  sources: readonly string[],
  measured: Measurement,
): Promise<void> {
  const all = await read(directory);
  for (const source of sources) all[source] = { ...all[source], [measured.by]: measured };
  await writeJson(fileIn(directory), all);
}

/**
 * Returns the newest measurement of each source, whether a restore or a drill made it.
 *
 * @param directory of the state
 */
export async function lastMeasured(directory: string): Promise<Record<string, Measurement>> {
  const all = Object.entries(await read(directory));
  return Object.fromEntries(
    all.flatMap(([source, { restore, drill }]): [string, Measurement][] => {
      const newest = restore && drill ? (restore.at > drill.at ? restore : drill) : (restore ?? drill);
      return newest ? [[source, newest]] : [];
    }),
  );
}

/**
 * Returns when a drill last restored each source, ISO times.
 *
 * @param directory of the state
 */
export async function lastProven(directory: string): Promise<Record<string, string>> {
  const all = Object.entries(await read(directory));
  return Object.fromEntries(all.flatMap(([source, { drill }]) => (drill ? [[source, drill.at]] : [])));
}

/**
 * Remembers what a drill measured of the sources that it restored completely and found equal. A drill of an old
 * snapshot, or of another place, proves nothing about the next recovery.
 *
 * @param directory of the state
 * @throws SPOOL_FULL
 */
export async function saveDrilled(directory: string, report: DrillReport): Promise<void> {
  const { id, end, results } = report;
  for (const result of results) {
    const { source, status, restoreMs, share } = result;
    // A share of a volume says nothing about the time for all of it.
    if (status !== 'ok' || restoreMs === undefined || share !== undefined || !isProof(report, result)) continue;
    await saveMeasured(directory, [source], { id, at: end, durationMs: restoreMs, by: 'drill' });
  }
}

/** The newest records of restores that are read after the memory was lost. */
const MAX_RECORDS = 20;

const recorded = z.object({
  id: z.string(),
  verb: z.literal('restore'),
  end: z.iso.datetime(),
  workMs: z.number().nonnegative(),
  whole: z.array(z.string()),
});

/**
 * Fills an empty memory from the records of restores in the repository. Does nothing if something is remembered.
 *
 * @param directory of the state
 * @throws DEST_*, SPOOL_FULL
 */
export async function recallMeasured(
  directory: string,
  { destination, project }: Pick<Repository, 'destination' | 'project'>,
): Promise<void> {
  if (Object.keys(await read(directory)).length > 0) return;
  const keys: string[] = [];
  for await (const { key } of destination.list(restorePrefix(project))) keys.push(key);
  // The keys end in ids, which sort by time.
  for (const key of keys.slice(-MAX_RECORDS)) {
    const { data } = recorded.safeParse(await readRecord(destination, key).catch(() => undefined));
    if (!data || data.whole.length === 0) continue;
    const { id, end, workMs, whole } = data;
    await saveMeasured(directory, whole, { id, at: end, durationMs: workMs, by: 'restore' });
  }
}
