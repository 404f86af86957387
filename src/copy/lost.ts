import type { Problem } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import { shellWord } from '../report/restore-command.ts';
import type { Snapshot } from '../store/repository/repository.ts';
import { highestSequence, placeOf } from '../store/repository/seen-chain.ts';
import { FORGOTTEN, findRemoved, readTombstone } from '../store/repository/tombstones.ts';
import type { Side } from './context.ts';

/**
 * Returns the ids of snapshots that the copy has and the destination has lost: it has neither their manifest nor a
 * tombstone that explains the loss. Reads only the tombstones of snapshots after the newest one at the destination,
 * which retention never removes: the chain there shows other gaps.
 *
 * @param abandoned the highest sequence without which somebody has accepted the destination
 */
export async function lostSnapshots(copied: readonly Snapshot[], main: Side, abandoned: number): Promise<string[]> {
  const there = new Set([...main.snapshots.map(({ manifest }) => manifest.id), ...main.damaged.map(({ id }) => id)]);
  const missing = copied.map(placeOf).filter(({ id, sequence }) => sequence > abandoned && !there.has(id));
  const named = new Set(main.removed);
  const end = highestSequence(main.snapshots.map(placeOf));
  const newer = missing.filter(({ id, sequence }) => sequence > end && named.has(id));
  const removed = await findRemoved(main.repository, newer, main.snapshots);
  return missing.filter((one) => (newer.includes(one) ? !removed.has(one.id) : !named.has(one.id))).map(({ id }) => id);
}

/** Returns the problem of a copy that has snapshots which the destination has lost. */
export function lostProblem(copy: string, { repository }: Side, [newest = '', ...others]: readonly string[]): Problem {
  const { name } = repository.destination;
  const more = others.length === 0 ? '' : ` and ${plural(others.length, 'other snapshot')}`;
  return {
    severity: 'error',
    code: 'CHAIN_BROKEN',
    subject: copy,
    message: `it has ${newest}${more}, which ${name} lost: Lifeboat did not remove ${others.length === 0 ? 'it' : 'them'} there`,
    hint: `To bring them back, run \`lifeboat copy --from ${shellWord(copy)}\`. To continue without them, run \`lifeboat accept destination\`.`,
  };
}

/** Returns whether somebody gave up an unreadable manifest at the destination. The copy then gives it up too. */
export async function isForgotten({ repository, removed }: Side, id: string): Promise<boolean> {
  return removed.includes(id) && (await readTombstone(repository, id))?.why === FORGOTTEN;
}
