import { unchanged } from '../definitions/compare-definitions.ts';
import { readDefinitions } from '../definitions/definitions.ts';
import type { DumpPace } from '../facts/count-budget.ts';
import { readDetails } from '../facts/details.ts';
import { type DatabaseFacts, hasTimescale, readDatabaseFacts } from '../facts/facts.ts';
import { measureLargeObjects } from '../facts/large-objects.ts';
import { listTables } from '../facts/tables.ts';
import { inSavepoint } from '../server/savepoint.ts';
import type { Session } from '../server/session.ts';
import { countTables } from './dump-counts.ts';
import { findFragile } from './fragile.ts';
import { countUnchecked } from './orphans.ts';

/** The facts about a database, read in the snapshot of its dump. */
interface ReadFacts {
  facts: DatabaseFacts;
  /** warnings about objects that a restore will fail to create */
  fragile: string[];
  /**
   * Finds out what has changed since the snapshot, and ends the transaction. Call it when the dump has ended. Resolves
   * to warnings about rows that are not counted. Never rejects.
   */
  finish(): Promise<string[]>;
}

/**
 * Reads the facts about the session's database, in its transaction.
 *
 * @throws PG_QUERY if the server refuses what a restore needs; the errors of a lost session
 */
export async function readFacts(session: Session, pace: DumpPace): Promise<ReadFacts> {
  const facts = await readDatabaseFacts(session, session.versionNumber);
  // Soon, because the server prints some definitions as they are at present, not as in the snapshot.
  const definitions = hasTimescale(facts) ? undefined : await readDefinitions(session, pace);
  facts.largeObjectBytes = await measureLargeObjects(session, facts);
  const listed = await listTables(session);
  facts.tables = listed.tables;
  const details = await inSavepoint(session, () => readDetails(session));
  if (!(details instanceof Error)) facts.details = details;
  const fragile = await findFragile(session, facts.name);
  facts.uncheckedKeys = await countUnchecked(session);
  const counted = await countTables(session, facts.name, listed, pace);
  const finish = async () => {
    // Without the second reading it is not certain which of both the dump has.
    const again =
      definitions &&
      (await readDefinitions(session, { ...definitions, readingMs: pace.readingMs }).catch(() => undefined));
    if (again) facts.definitions = unchanged(definitions, again);
    return counted.finish();
  };
  return { facts, fragile, finish };
}
