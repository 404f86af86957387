import { LifeboatError } from '../base/errors.ts';
import type { PlannedSource } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import type { State } from '../run/state.ts';
import { listIncomplete } from '../store/objects/documents.ts';
import { documentsOfEntry, type ObjectRef } from '../store/objects/manifest.ts';
import { isDamage } from '../store/repository/damage.ts';
import { objectsOfEntry } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import type { Capturer } from './context.ts';
import type { Captured } from './outcome.ts';

interface Incomplete {
  capturer: Pick<Capturer, 'failed'>;
  captured: Captured[];
  repository: Pick<Repository, 'destination' | 'project' | 'readPackList'>;
  state: Pick<State, 'damaged' | 'saveDamaged'>;
}

/**
 * Fails the sources that reuse packs which the destination has lost, so that the others can be committed. Marks these
 * packs as damaged: the next run stores their content again.
 *
 * @returns whether there is such a source
 */
export async function failIncomplete({ capturer, captured, repository, state }: Incomplete): Promise<boolean> {
  const { destination, project } = repository;
  const refs = new Map<Captured, ObjectRef[]>();
  for (const one of captured) refs.set(one, await refsOf(repository, one));
  const wrong = await listIncomplete(destination, project, [...refs.values()].flat());
  if (wrong.size === 0) return false;
  await state.saveDamaged([...new Set([...(await state.damaged()), ...wrong])]);
  for (const [i, one] of captured.entries()) {
    const lacking = (refs.get(one) ?? []).filter(({ key }) => wrong.has(key));
    if (lacking.length === 0) continue;
    const { name, kind } = one.report;
    const message = `${plural(lacking.length, 'object')} of ${name} ${lacking.length === 1 ? 'is' : 'are'} missing at ${destination.name}, or incomplete there`;
    const hint = 'The next run stores the content again. `lifeboat check` names earlier snapshots that lost it too.';
    const error = new LifeboatError('OBJECT_MISSING', message, { hint });
    captured[i] = await capturer.failed({ name, kind: kind as PlannedSource['kind'] }, error);
  }
  return true;
}

/** Returns the objects of a source. If the list of its packs cannot be read, the list itself counts as incomplete. */
async function refsOf(repository: Incomplete['repository'], { entry }: Captured): Promise<ObjectRef[]> {
  try {
    return await objectsOfEntry(repository, entry);
  } catch (error) {
    if (!isDamage(error) || !entry.packs) throw error;
    return [...documentsOfEntry({ ...entry, packs: undefined }), { ...entry.packs, size: -1 }];
  }
}
