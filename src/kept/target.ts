import { LifeboatError } from '../base/errors.ts';
import type { Plan, PlannedSource } from '../plan/model.ts';

/**
 * Returns the error for the old name of a volume that several services share, and that has another name now.
 *
 * @param command restores its present snapshots
 */
export function renamed(
  name: string,
  storedAs: string,
  command = `lifeboat restore latest ${storedAs}`,
): LifeboatError {
  return new LifeboatError('SOURCE_UNKNOWN', `the volume of ${name} is backed up as ${storedAs}`, {
    hint: `Its present snapshots have that name: \`${command}\`. To use an older snapshot of ${name}, name it by its id. To restore that into the volume, add --to ${storedAs}.`,
  });
}

/** Returns the present name of a shared volume, or undefined if it has none or the plan cannot be made. */
export async function presentName(plan: () => Promise<Plan>, name: string): Promise<string | undefined> {
  const { shared } = await plan().catch((): Partial<Plan> => ({}));
  return shared?.[name];
}

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
    throw renamed(name, shared);
  }
  const others = plan.sources.filter((source) => source.kind === kind).map((source) => source.name);
  const elsewhere = others.length > 0 ? ` To restore into another source, add --to: ${others.join(', ')}.` : '';
  const problem = plan.problems.find(({ severity }) => severity === 'error');
  throw new LifeboatError('SOURCE_UNKNOWN', `no running container has the source ${name}`, {
    hint: problem
      ? `The plan has a problem: ${problem.message}.`
      : `Start it with \`docker compose up -d\`, or restore with --to-directory DIR.${elsewhere}`,
  });
}
