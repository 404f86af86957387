import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { Problem } from '../plan/model.ts';
import { costOf, type PlaceLimits } from '../plan/values/place-limits.ts';
import { formatBytes, oneLine } from '../report/format.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { StoredSizes } from '../store/objects/measure.ts';

/** The size of a place at one moment. */
export interface SizeSample extends StoredSizes {
  /** ISO time */
  at: string;
}

/** The sizes of each place over time, by its name; oldest first, one sample a day, older ones one a month. */
type SizeLog = Record<string, SizeSample[]>;

/** Days of which every sample is kept. */
const DAYS = 40;
/** Older samples that are kept, one a month. */
const MONTHS = 24;
const DAY_MS = 86_400_000;

/** A file for each place, because copies are measured in parallel. */
interface SizeFile {
  place: string;
  samples: SizeSample[];
}

const directoryIn = (directory: string) => path.join(directory, 'sizes');

/** Reads what each place held. `directory`: of the state. Empty if nothing was measured yet. */
export async function readSizes(directory: string): Promise<SizeLog> {
  const log: SizeLog = {};
  for (const name of await readdir(directoryIn(directory)).catch(() => [])) {
    if (!name.endsWith('.json')) continue;
    const found = await readJson<SizeFile>(path.join(directoryIn(directory), name)).catch(() => undefined);
    if (found) log[found.place] = found.samples;
  }
  return log;
}

/**
 * Records what a place holds. Losing the record loses no backup.
 *
 * @param directory of the state
 * @param place its name
 * @throws SPOOL_FULL
 */
export async function saveSize(directory: string, place: string, sample: SizeSample): Promise<void> {
  const name = createHash('sha256').update(place).digest('hex').slice(0, 16);
  const file = path.join(directoryIn(directory), `${name}.json`);
  const before = await readJson<SizeFile>(file);
  await writeJson(file, { place, samples: thinOut([...(before?.samples ?? []), sample]) } satisfies SizeFile);
}

/** Keeps the last sample of each of the last days, and of each month before. */
function thinOut(samples: readonly SizeSample[]): SizeSample[] {
  const newest = Date.parse(samples.at(-1)?.at ?? '');
  const days = new Map<string, SizeSample>();
  const months = new Map<string, SizeSample>();
  for (const sample of samples) {
    const isRecent = newest - Date.parse(sample.at) < DAYS * DAY_MS;
    if (isRecent) days.set(sample.at.slice(0, 10), sample);
    else months.set(sample.at.slice(0, 7), sample);
  }
  return [...[...months.values()].slice(-MONTHS), ...days.values()];
}

/** A place with what it costs. */
export interface LimitedPlace {
  name: string;
  limits?: PlaceLimits | undefined;
}

/** Returns a warning for each place that holds or costs more than its location allows. */
export function sizeProblems(places: readonly LimitedPlace[], log: SizeLog): Problem[] {
  return places.flatMap(({ name, limits }): Problem[] => {
    const bytes = log[name]?.at(-1)?.bytes;
    if (bytes === undefined || limits === undefined) return [];
    const { warnSize, warnCost } = limits;
    const cost = costOf(bytes, limits);
    const texts = [
      ...(warnSize !== undefined && bytes > warnSize
        ? [`holds ${formatBytes(bytes)}, more than ${formatBytes(warnSize)}`]
        : []),
      ...(warnCost !== undefined && cost !== undefined && cost > warnCost
        ? [`costs ${cost.toFixed(2)} a month, more than ${warnCost}`]
        : []),
    ];
    if (texts.length === 0) return [];
    return [
      {
        severity: 'warning',
        code: 'DEST_LARGE',
        subject: name,
        message: `${oneLine(name)} ${texts.join(', and ')}`,
        hint: 'The page shows which source grows. Keep fewer snapshots with LIFEBOAT_KEEP, or raise warn-size or warn-cost of the location.',
      },
    ];
  });
}
