import path from 'node:path';
import { z } from 'zod';
import { errorInfo } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { placeOf } from '../destinations/destination.ts';
import type { DrillReport } from '../report/drill-report.ts';
import { readJson, writeJson } from '../run/state-files.ts';
import type { Repository } from '../store/repository/repository.ts';
import { putDrill, readDrills } from './evidence.ts';
import type { SeenDrill } from './evidence-chain.ts';

/**
 * The newest evidence that the agent has seen at each place. The chain shows what is missing before a document; this
 * memory shows what is missing after the last one.
 */
const file = z.record(z.string(), z.object({ id: z.string(), sequence: z.number(), hash: z.string() }));

type Place = Pick<Repository, 'destination' | 'project' | 'signing' | 'info'>;

const fileIn = (directory: string) => path.join(directory, 'seen-drills.json');

/** A copy has the same id, and may lack what the repository has. */
function keyOf({ destination, project, info }: Place): string {
  return JSON.stringify([info.id, project, placeOf(destination)]);
}

async function read(directory: string): Promise<Record<string, SeenDrill>> {
  return file.safeParse(await readJson<unknown>(fileIn(directory))).data ?? {};
}

interface Memory {
  /** of the state */
  directory: string;
  log: Log;
}

/**
 * Stores the evidence of a drill, see {@link putDrill}, and remembers it. Losing the memory loses no evidence.
 *
 * @throws like {@link putDrill}
 */
export async function storeEvidence(memory: Memory, place: Place, report: DrillReport): Promise<DrillReport[]> {
  const { earlier, stored } = await putDrill(place, report, await seenAt(memory, place));
  await remember(memory, place, stored);
  return earlier;
}

/**
 * Reads evidence, see {@link readDrills}, and notices if the newest that was seen at that place is gone.
 *
 * @param options see {@link readDrills}
 * @throws like {@link readDrills}
 */
export async function readEvidence(
  memory: Memory,
  place: Place,
  options: { newest?: number; signal?: AbortSignal } = {},
): Promise<Awaited<ReturnType<typeof readDrills>>> {
  const list = await readDrills(place, { ...options, seen: await seenAt(memory, place) });
  // With a key, only what is signed counts.
  const last = list.drills.findLast(({ signature }) => signature !== 'unsigned');
  if (last) await remember(memory, place, { id: last.report.id, sequence: last.sequence, hash: last.hash });
  return list;
}

async function seenAt({ directory, log }: Memory, place: Place): Promise<SeenDrill | undefined> {
  try {
    return (await read(directory))[keyOf(place)];
  } catch (error) {
    log.warn('the memory of evidence cannot be read', { ...errorInfo(error) });
    return undefined;
  }
}

async function remember({ directory, log }: Memory, place: Place, newest: SeenDrill): Promise<void> {
  try {
    const all = await read(directory);
    const known = all[keyOf(place)];
    if (known && known.sequence >= newest.sequence) return;
    await writeJson(fileIn(directory), { ...all, [keyOf(place)]: newest });
  } catch (error) {
    log.warn('the newest evidence cannot be remembered', { drill: newest.id, ...errorInfo(error) });
  }
}
