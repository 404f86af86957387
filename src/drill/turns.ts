import path from 'node:path';
import { z } from 'zod';
import { readJson, writeJson } from '../run/state-files.ts';

/**
 * When each source had its turn in a drill. The next drill begins with the source that waited longest, so that every
 * source has its turn even if no drill is ever completed. Losing this memory loses no backup.
 */

const turn = z.object({
  /** when a drill of the source last came to an end of its own, ISO time; before the first, when it was first seen */
  done: z.iso.datetime(),
  /** its drill has begun, and did not end: the agent died meanwhile */
  begun: z.literal(true).optional(),
  /** the first drill since then that did not come to an end of the source, ISO time; absent if there was none */
  early: z.iso.datetime().optional(),
});
const file = z.record(z.string(), turn);

const fileIn = (directory: string) => path.join(directory, 'drill-turns.json');

async function read(directory: string): Promise<z.infer<typeof file>> {
  return file.safeParse(await readJson<unknown>(fileIn(directory))).data ?? {};
}

/**
 * Returns sources in the order of their turns. One whose drill ended together with the agent comes last: it must not
 * keep the others from their turn.
 *
 * @param directory of the state
 */
export async function inTurn<T extends { source: string }>(directory: string, all: readonly T[]): Promise<T[]> {
  const turns = await read(directory);
  const place = ({ source }: T) => {
    const { done = '', begun } = turns[source] ?? {};
    return `${begun ? 1 : 0}${done}`;
  };
  return all.toSorted((a, b) => (place(a) < place(b) ? -1 : place(a) > place(b) ? 1 : 0));
}

/** the last turn of a source that never had one: it comes first */
const NEVER = new Date(0).toISOString();

/**
 * Notes that the drill of a source begins, is interrupted, or has come to an end of its own; `missed`: the drill ended
 * before it came to the source.
 *
 * @param directory of the state
 * @throws SPOOL_FULL
 */
export async function saveTurn(
  directory: string,
  source: string,
  { what, now }: { what: 'begun' | 'interrupted' | 'missed' | 'done'; now: Date },
): Promise<void> {
  const turns = await read(directory);
  const at = now.toISOString();
  const before = turns[source];
  const early = before?.early ?? at;
  const first = before?.done ?? (what === 'missed' ? NEVER : at);
  const isBegun = what === 'begun' || (what === 'missed' && before?.begun);
  const next = what === 'done' ? { done: at } : { done: first, early, ...(isBegun ? { begun: true } : {}) };
  await writeJson(fileIn(directory), { ...turns, [source]: next });
}

/**
 * Returns the sources whose drills have ended early since before a time, all of them. Without a drill, there is none.
 *
 * @param directory of the state
 * @param names of the sources that should have turns
 */
export async function overdueTurns(directory: string, names: readonly string[], before: Date): Promise<string[]> {
  const turns = await read(directory);
  return names.filter((name) => {
    const { early } = turns[name] ?? {};
    return early !== undefined && new Date(early) < before;
  });
}
