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

/**
 * Notes that the drill of a source begins, is interrupted, or has come to an end of its own.
 *
 * @param directory of the state
 * @throws SPOOL_FULL
 */
export async function saveTurn(
  directory: string,
  source: string,
  { what, now }: { what: 'begun' | 'interrupted' | 'done'; now: Date },
): Promise<void> {
  const turns = await read(directory);
  const at = now.toISOString();
  const done = what === 'done' ? at : (turns[source]?.done ?? at);
  await writeJson(fileIn(directory), { ...turns, [source]: { done, ...(what === 'begun' ? { begun: true } : {}) } });
}

/**
 * Returns the sources whose last turn was before a time.
 *
 * @param directory of the state
 * @param names of the sources that should have turns
 */
export async function overdueTurns(directory: string, names: readonly string[], before: Date): Promise<string[]> {
  const turns = await read(directory);
  return names.filter((name) => {
    const { done } = turns[name] ?? {};
    return done !== undefined && new Date(done) < before;
  });
}
