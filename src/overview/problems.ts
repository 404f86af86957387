import { errorOf } from '../backup/others.ts';
import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { heldProblems } from '../daemon/held-services.ts';
import type { Problem } from '../plan/model.ts';
import { withoutRepeated } from '../report/problem-text.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import type { Overview } from './overview.ts';

/** Returns the errors of the destination: why it cannot be read, or its damaged snapshots, one for each kind. */
export function destinationErrors({ found }: Pick<Overview, 'found'>): ErrorInfo[] {
  return found.problem ? [errorInfo(found.problem)] : groupDamaged(found.damaged).map(({ error }) => errorInfo(error));
}

/** Returns the present problems that belong to no single source, without those that an error of a source says. */
export function projectProblems(overview: Overview): Problem[] {
  const { sources, plan, last, problems, held } = overview;
  const said = sources.map(errorOf);
  const all = [...problems, ...heldProblems(held), ...plan.problems, ...(last?.problems ?? [])];
  const seen = new Set<string>();
  return withoutRepeated(all, said).filter(({ code, message }) => {
    const key = JSON.stringify([code, message]);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

/** Returns every present error: of sources, copies, the destination, windows, and of the project. */
export function overviewErrors(overview: Overview): Pick<ErrorInfo, 'code'>[] {
  const { sources, copies, windows } = overview;
  return [
    ...destinationErrors(overview),
    ...sources.flatMap((source) => errorOf(source) ?? []),
    ...copies.flatMap(({ error }) => error ?? []),
    ...windows.flatMap(({ problems, receiver }) => [...problems, ...(receiver?.error ? [receiver.error] : [])]),
    ...projectProblems(overview),
  ];
}
