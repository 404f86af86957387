import { type DeleteManyOptions, type Destination, deletesInBulk } from '../../destinations/destination.ts';
import { deleteUnlessKept } from './objects.ts';

/** After this many refusals the destination forbids deletions: trying thousands of further objects is pointless. */
const REFUSALS = 20;
/** The number of single deletions in progress at a time. */
const AT_ONCE = 8;

/**
 * Deletes objects, several at a time, beginning with the first ones.
 *
 * @param options `before` is called before each request
 * @returns the keys of the objects that the destination does not let Lifeboat delete, and, after several refusals, of
 * all that follow
 * @throws what `before` throws, and the destination otherwise; the signal's reason
 */
export async function deleteAll(
  destination: Destination,
  keys: readonly string[],
  options: DeleteManyOptions = {},
): Promise<string[]> {
  const { signal, before } = options;
  signal?.throwIfAborted();
  if (deletesInBulk(destination)) return destination.deleteMany(keys, options);
  const kept: string[] = [];
  const failures: unknown[] = [];
  let next = 0;
  const work = async () => {
    while (next < keys.length && failures.length === 0) {
      const key = keys[next++] as string;
      try {
        signal?.throwIfAborted();
        if (kept.length < REFUSALS) await before?.();
        if (kept.length >= REFUSALS || !(await deleteUnlessKept(destination, key))) kept.push(key);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (failures.length > 0) throw failures[0];
  return kept;
}
