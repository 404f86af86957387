import type { Problem } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import type { Snapshot } from '../store/repository/repository.ts';
import type { Side } from './steps.ts';

/**
 * Returns the ids of snapshots that the copy has and the destination has lost: it has neither their manifest nor a
 * tombstone.
 *
 * @param abandoned the highest sequence without which somebody has accepted the destination
 */
export function lostSnapshots(copied: readonly Snapshot[], main: Side, abandoned: number): string[] {
  const known = new Set([
    ...main.snapshots.map(({ manifest }) => manifest.id),
    ...main.damaged.map(({ id }) => id),
    ...main.removed,
  ]);
  return copied
    .filter(({ manifest: { id, sequence } }) => sequence > abandoned && !known.has(id))
    .map(({ manifest }) => manifest.id);
}

/** Returns the problem of a copy that has snapshots which the destination has lost. */
export function lostProblem(copy: string, { repository }: Side, [newest = '', ...others]: readonly string[]): Problem {
  const { name } = repository.destination;
  const more = others.length === 0 ? '' : ` and ${plural(others.length, 'other snapshot')}`;
  return {
    severity: 'error',
    code: 'CHAIN_BROKEN',
    subject: copy,
    message: `it has ${newest}${more}, which ${name} lost: nobody removed ${others.length === 0 ? 'it' : 'them'} there`,
    hint: `To bring them back, run \`lifeboat copy --from ${copy}\`. To go on without them, run \`lifeboat accept destination\`.`,
  };
}
