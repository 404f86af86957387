import { LifeboatError } from '../base/errors.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';

/** Finds the running container of a source. @throws SOURCE_UNKNOWN */
export async function restoreTarget<K extends PlannedSource['kind']>(
  deps: { plan(): Promise<Plan> },
  name: string,
  kind: K,
): Promise<PlannedSource & { kind: K }> {
  const plan = await deps.plan();
  const planned = plan.sources.find((source) => source.name === name);
  if (planned?.kind === kind) return planned as PlannedSource & { kind: K };
  const shared = plan.shared?.[name];
  if (shared !== undefined) {
    throw new LifeboatError('SOURCE_UNKNOWN', `the volume of ${name} is backed up as ${shared}`, {
      hint: `Its present snapshots have that name: \`lifeboat restore latest ${shared}\`. To restore an older snapshot of ${name} into it, name the snapshot by its id and add --to ${shared}.`,
    });
  }
  const problem = plan.problems.find(({ severity }) => severity === 'error');
  throw new LifeboatError(
    'SOURCE_UNKNOWN',
    `no running container has the source ${name}, so there is nothing to restore into`,
    {
      hint: problem
        ? `The plan has a problem: ${problem.message}.`
        : 'Start it with `docker compose up -d`, or restore with --to-directory DIR.',
    },
  );
}
