import { hasCode, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import type { Problem } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import { MAX_DOCUMENT } from '../store/objects/bounds.ts';
import { readDocument, streamOf } from '../store/objects/objects.ts';
import { drillPrefix } from '../store/objects/records.ts';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import { copyDocument } from '../store/repository/copy-objects.ts';
import type { Repository } from '../store/repository/repository.ts';

/**
 * Brings the evidence of drills to a copy, as stored. With `back`, evidence that only the copy has comes to `main`: a
 * drill stores it in a copy while the repository cannot be read. Signatures and the chain show which of it is genuine.
 *
 * @returns problems: evidence that cannot be read. The copy is complete without it: no restore needs it
 * @throws the errors of both destinations, but for `back` only when `main` is read
 */
export async function copyDrills(main: Repository, to: Repository, back: boolean): Promise<Problem[]> {
  const prefix = drillPrefix(to.project);
  const [here, there] = [await keysIn(main.destination, prefix), await keysIn(to.destination, prefix)];
  const unread: { key: string; error: LifeboatError }[] = [];
  for (const key of here) {
    if (there.has(key)) continue;
    const bytes = await readDocument(main.destination, key, { limit: MAX_DOCUMENT }).catch((error: unknown) =>
      toLifeboatError(error),
    );
    if (bytes instanceof Error) unread.push({ key, error: bytes });
    else await putOnce(to.destination, key, bytes);
  }
  // A place that does not answer is no problem of one document.
  if (unread.length > 0) await keysIn(main.destination, prefix);
  const problems = problemsOf(unread);
  if (!back) return problems;
  for (const key of there) {
    // The copy is complete without it. The next run tries again.
    if (!here.has(key)) await copyDocument(to.destination, main.destination, key).catch(() => undefined);
  }
  return problems;
}

async function putOnce(to: Destination, key: string, bytes: Buffer): Promise<void> {
  try {
    await to.put(key, streamOf(bytes));
  } catch (error) {
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
  }
}

function problemsOf([first, ...others]: readonly { key: string; error: LifeboatError }[]): Problem[] {
  if (!first) return [];
  const { code, message, hint } = first.error;
  const id = first.key.slice(first.key.lastIndexOf('/') + 1, -'.json'.length);
  const more = others.length === 0 ? '' : `, and that of ${plural(others.length, 'other')}`;
  const text = `the evidence of drill ${id}${more} cannot be copied: ${message}`;
  return [{ severity: 'warning', code, subject: 'drills', message: text, ...(hint === undefined ? {} : { hint }) }];
}

/** Lists evidence. Anything else there is left alone. */
async function keysIn(destination: Destination, prefix: string): Promise<Set<string>> {
  const keys = new Set<string>();
  for await (const { key } of destination.list(prefix)) {
    const name = key.slice(prefix.length);
    if (name.endsWith('.json') && parseSnapshotId(name.slice(0, -'.json'.length))) keys.add(key);
  }
  return keys;
}
