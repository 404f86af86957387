import type { DrillCheck } from '../../report/drill-report.ts';
import { plural } from '../../report/format.ts';
import { compareDefinitions, isRight } from '../../sources/postgres/definitions/compare-definitions.ts';
import { PRINTING, readDefinitions } from '../../sources/postgres/definitions/definitions.ts';
import type { DatabaseFacts } from '../../sources/postgres/facts/facts.ts';
import type { Session } from '../../sources/postgres/server/session.ts';
import { noneOf } from './check.ts';

/** The checks of {@link definitionChecks}. */
export const DEFINITION_CHECKS = ['definitions', 'owners and rights of each object'] as const;

/**
 * Compares the definitions and rights of all objects with the record. What the record leaves out is a check of its own
 * that is skipped. `session` is in a transaction.
 */
export async function definitionChecks(
  session: Session,
  { name: of, definitions: recorded }: DatabaseFacts,
): Promise<DrillCheck[]> {
  const [definitions, rights] = DEFINITION_CHECKS;
  const skip = (detail: string) =>
    DEFINITION_CHECKS.map((name): DrillCheck => ({ name, of, result: 'skipped', detail }));
  if (!recorded) return skip('the snapshot does not record it');
  if (recorded.printing !== PRINTING) return skip('another version of Lifeboat recorded it, in another way');
  const now = await readDefinitions(session, recorded);
  const compared = await compareDefinitions(session, recorded, now);
  const objects = recorded.digests.reduce((sum, one) => sum + (isRight(one) ? 0 : one.objects), 0);
  return [
    noneOf(definitions, of, compared.definitions, plural(objects, 'object')),
    noneOf(rights, of, compared.rights),
    ...compared.left.definitions.map((detail): DrillCheck => ({ name: definitions, of, result: 'skipped', detail })),
    ...compared.left.rights.map((detail): DrillCheck => ({ name: rights, of, result: 'skipped', detail })),
  ];
}
