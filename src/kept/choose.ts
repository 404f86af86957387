import { LifeboatError } from '../base/errors.ts';
import type { Rollback } from '../run/state.ts';
import { areaName, DATA_ROOT } from '../store/filesystem/area.ts';

/** The restore that a rollback means. */
export interface Wanted {
  /** its id, or the start of one; absent: the newest restore that can be rolled back */
  id?: string;
  /** only of this source */
  source?: string;
}

/** Returns the records that a request may mean, oldest first. */
export function matching(all: readonly Rollback[], { id, source }: Wanted): Rollback[] {
  return all.filter(
    (one) => (id === undefined || one.id.startsWith(id)) && (source === undefined || one.source === source),
  );
}

/**
 * Chooses the restore that a request means. Without an id, leaves out restores whose data cannot be reached.
 *
 * @param unusable why data cannot be reached, for a message, by the id of its restore
 * @throws NOTHING_TO_ROLL_BACK
 */
export function chooseRollback(
  all: readonly Rollback[],
  wanted: Wanted,
  unusable: ReadonlyMap<string, string> = new Map(),
): Rollback {
  const { id } = wanted;
  const found = matching(all, wanted);
  const [newest] = found.filter((one) => id !== undefined || !unusable.has(one.id)).toReversed();
  if (newest && (id === undefined || found.length === 1 || newest.id === id)) return newest;
  const members = all.filter(({ group }) => id !== undefined && group?.startsWith(id));
  const name = (one: Rollback) => `${one.id} (${one.source})`;
  const names = (members.length > 0 ? members : all).filter((one) => !unusable.has(one.id)).map(name);
  const dead = found.filter((one) => unusable.has(one.id));
  throw new LifeboatError(
    'NOTHING_TO_ROLL_BACK',
    newest ? `more than one restore starts with ${id}` : 'no such restore',
    {
      hint: [
        names.length > 0 ? `The restores are: ${names.join(', ')}.` : 'No restore has old data that still exists.',
        ...dead.map(
          (one) =>
            `${name(one)}: ${unusable.get(one.id)}. \`lifeboat rollback ${one.id} --forget\` removes its record.`,
        ),
      ].join(' '),
    },
  );
}

/**
 * Like {@link chooseRollback}. If the newest restore cannot be rolled back, a user who sees the preview may confirm an
 * older one. A script must name it: it would replace data that it does not mean.
 */
export function chooseUsable(
  all: readonly Rollback[],
  request: Wanted & { unattended?: true; dryRun?: boolean },
  unusable: ReadonlyMap<string, string>,
): Rollback {
  const chosen = chooseRollback(all, request, unusable);
  const newest = matching(all, request).at(-1);
  if (!request.unattended || request.dryRun || !newest || !unusable.has(newest.id)) return chosen;
  const message = `the newest restore, ${newest.id} of ${newest.source}, cannot be rolled back: ${unusable.get(newest.id)}`;
  throw new LifeboatError('NOTHING_TO_ROLL_BACK', message, {
    hint: `To roll back restore ${chosen.id} of ${chosen.source} instead: \`lifeboat rollback ${chosen.id}\`. To remove the record of the newest one: \`lifeboat rollback ${newest.id} --forget\`. Nothing was changed.`,
  });
}

/** Why old data is not found, for messages: see `VolumeArea.missing`. */
export const WHY_MISSING = {
  area: 'its volume does not have the old data any more',
  volume: 'its volume is not mounted, or was made again',
};

/** Returns the name of the directory with old data. */
export function keptName({ volume, dataDirectory }: Pick<Rollback, 'volume' | 'dataDirectory'>): string {
  return areaName('before', volume?.area ?? '', dataDirectory ? DATA_ROOT : '');
}

/** Returns where the old data of a restore stays when only its record is removed. */
export function whereItStays({ source, databases = [], volume, dataDirectory }: Rollback): string {
  if (volume)
    return `The old data stays in ${keptName({ volume, ...(dataDirectory && { dataDirectory }) })} of the volume that ${source} had`;
  return `The old data stays on the server that ${source} had, in ${databases.map(({ before }) => before).join(', ')}`;
}
