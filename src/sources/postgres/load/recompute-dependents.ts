import { errorInfo } from '../../../base/errors.ts';
import type { NameDependent } from '../facts/name-dependents.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import { quietSettings } from './quiet-triggers.ts';

/** A statement waits this long for locks of applications that use the restored database already. */
const LOCK_LIMIT = '60s';

/**
 * Computes again what was built under the working name of a database and depends on that name. The database has its
 * final name and may be in use, so a failure is a warning with the statement to repeat. After an interrupt, recovery
 * computes everything again, so a single warning says that.
 *
 * @param found the dependents, in the order in which their statements can run
 * @param tools open a session on the database under its final name; `signal` interrupts the restore
 */
export async function recomputeDependents(
  target: string,
  found: readonly NameDependent[],
  tools: { open(): Promise<Session>; signal: AbortSignal },
): Promise<string[]> {
  const warnings = found.filter(({ statement }) => statement === null).flatMap((one) => staleWarning(target, one));
  const steps = found.flatMap(({ statement, relation }) => (statement === null ? [] : { statement, relation }));
  if (steps.length === 0) return warnings;
  const failures = await runAll(target, steps, tools.open);
  if (tools.signal.aborted && failures.length > 0) {
    const later = `database ${target}: what depends on the name of the database is not computed again yet, because the restore was interrupted: the next recovery of Lifeboat does it`;
    return [...warnings, later];
  }
  return [...warnings, ...failures];
}

/** Returns a warning for each statement that failed. */
async function runAll(
  target: string,
  steps: readonly { statement: string; relation: string | null }[],
  open: () => Promise<Session>,
): Promise<string[]> {
  const words = (error: unknown) => serverWords(error) ?? errorInfo(error).message;
  const notRun = (statement: string, error: unknown) =>
    `database ${target}: what depends on the name of the database is not computed again (${statement}): ${words(error)}`;
  let session: Session;
  try {
    session = await open();
  } catch (error) {
    return steps.map(({ statement }) => notRun(statement, error));
  }
  const failures: string[] = [];
  try {
    await quietSettings(session);
    const outdated = new Set<string>();
    for (const { statement, relation } of steps) {
      try {
        await session.run(`SET lock_timeout = '${LOCK_LIMIT}'`);
        await session.run(statement);
        if (relation !== null) outdated.add(relation);
      } catch (error) {
        failures.push(notRun(statement, error));
      }
    }
    // If a relation cannot be analysed now, autovacuum analyses it later.
    for (const relation of outdated) await session.run(`ANALYZE ${relation}`).catch(() => undefined);
  } finally {
    await session.close();
  }
  return failures;
}

/**
 * Warns of stored content that no single statement computes again. A constraint that the rows satisfied stores none.
 */
function staleWarning(target: string, { kind, object }: NameDependent): string[] {
  if (kind === 'constraint') return [];
  const how =
    kind === 'generated column'
      ? 'drop the column and add it again'
      : 'move the rows to a new table with the same partitions';
  return [
    `database ${target}: ${kind} ${object} depends on the name of the database, and is computed for the working name of the restore: ${how}`,
  ];
}
