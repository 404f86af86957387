import { errorInfo } from '../../base/errors.ts';
import { groupOf } from '../../kept/group.ts';
import { refuseOlder } from '../../kept/last-unkept.ts';
import type { RestoreReport } from '../../report/events.ts';
import type { Rollback } from '../../run/state.ts';
import type { Consent, RestoreDeps } from '../context.ts';
import { forget, type RollbackRequest } from '../rollback.ts';

/** The result of deleting old data. */
export interface Forgotten {
  forgotten: Rollback[];
  /** the sources whose old data stays, and why; absent when there are none */
  failed?: NonNullable<RestoreReport['failed']>;
}

/**
 * Drops the old data of the restore that the request means: of one source, or of all sources together.
 *
 * @throws NOTHING_TO_ROLL_BACK, NOT_CONFIRMED (also by `refuseOlder`); the error of the first source if no data could
 * be dropped
 */
export async function forgetData(deps: RestoreDeps, request: RollbackRequest): Promise<Forgotten> {
  const group = groupOf(await deps.state.rollbacks(), request);
  await refuseOlder(deps, request, { group, forgets: true });
  return group === undefined ? { forgotten: [await forget(deps, request)] } : forgetAll(deps, request, group);
}

/**
 * Drops the old data of every source of a restore of all sources. Shows everything, then asks for confirmation
 * once. A source whose data cannot be dropped is reported, and the others are dropped. Running the command again
 * continues.
 */
async function forgetAll(deps: RestoreDeps, request: RollbackRequest, group: string): Promise<Forgotten> {
  const members = (await deps.state.rollbacks()).filter((one) => one.group === group);
  const failed: NonNullable<RestoreReport['failed']> = [];
  let first: unknown;
  const each = async (records: readonly Rollback[], how: Partial<Consent & RollbackRequest>) => {
    const done: Rollback[] = [];
    for (const { id, source } of records) {
      request.signal.throwIfAborted();
      try {
        done.push(await forget(deps, { ...request, ...how, id }));
      } catch (error) {
        request.signal.throwIfAborted();
        first ??= error;
        failed.push({ target: source, error: errorInfo(error) });
      }
    }
    return done;
  };
  const shown = await each(members, { dryRun: true });
  for (const { target, error } of failed) request.say(`  ${target} stays as it is: ${error.message} (${error.code})`);
  if (shown.length > 0 && !request.dryRun) await request.confirm(deps.project);
  // Everything but the progress, which is indented, was shown before the confirmation.
  const say = (line: string) => (line.startsWith(' ') ? request.say(line) : undefined);
  const forgotten = request.dryRun ? shown : await each(shown, { confirm: async () => undefined, say });
  if (forgotten.length === 0 && first !== undefined) throw first;
  return { forgotten, ...(failed.length > 0 ? { failed } : {}) };
}
