import { LifeboatError } from '../../../base/errors.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { attempt } from './set-constraints-aside.ts';
import { quotedTable } from './set-indexes-aside.ts';

/**
 * Turns off triggers in the session, and returns the settings that do so in other sessions; none if the role may not
 * set them.
 */
export async function quietSettings(session: Session): Promise<string[]> {
  return session.run('SET session_replication_role = replica').then(
    () => ['-c session_replication_role=replica'],
    () => [],
  );
}

/** The clause of ALTER TABLE for each state (Postgres docs, pg_trigger: tgenabled, pg_rewrite: ev_enabled). */
const CLAUSES = { O: 'ENABLE', A: 'ENABLE ALWAYS', R: 'ENABLE REPLICA', D: 'DISABLE' } as const;

type State = keyof typeof CLAUSES;

/** A trigger, or a rule, which applies to INSERT but not to COPY. */
interface Firing {
  kind: 'TRIGGER' | 'RULE';
  /** quoted, with its schema */
  table: string;
  name: string;
  state: State;
  /** level of the table in its partition tree; a change of a trigger reaches the partitions below */
  depth: number;
}

/**
 * The triggers and rules of a table, or of the whole partition tree that it belongs to. Up to Postgres 14, a
 * partition's copy of a trigger is marked as internal, like the triggers of keys.
 */
const FIRING = `WITH given AS (SELECT to_regclass($1) AS id),
  tree AS (SELECT id, max(depth) AS depth FROM (
    SELECT id::oid, 0 AS depth FROM given
    UNION ALL SELECT part.relid::oid, level FROM given, pg_partition_tree(pg_partition_root(given.id)) part) ids GROUP BY id),
  firing AS (
    SELECT 'TRIGGER' AS kind, tgrelid AS id, tgname AS name, tgenabled AS state FROM pg_trigger
     WHERE NOT tgisinternal
        OR tgparentid <> 0 AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.oid = tgconstraint AND contype <> 't')
    UNION ALL SELECT 'RULE', ev_class, rulename, ev_enabled FROM pg_rewrite)
  SELECT kind, format('%I.%I', nspname, relname) AS table, name, state::text AS state, depth
    FROM tree JOIN firing USING (id) JOIN pg_class r ON r.oid = id JOIN pg_namespace n ON n.oid = relnamespace
   ORDER BY depth, id, kind, name`;

/** The result of {@link disableTriggers}. */
interface Disabled {
  /** the server's words if it refuses to disable one of them: rows must not be loaded then */
  refused: string | undefined;
  /** Restores the state of each trigger and rule. @throws PG_RESTORE_FAILED if the server refuses that */
  restore(): Promise<void>;
}

/**
 * Disables the triggers and rules of a table and of its whole partition tree, also those with ENABLE ALWAYS. Only the
 * owner of the tables may do that.
 *
 * @param table quoted, with its schema
 */
export async function disableTriggers(session: Session, table: string): Promise<Disabled> {
  const before = new Map((await readFiring(session, table)).map((one) => [keyOf(one), one.state]));
  const refused = await setStates(session, table, () => 'D');
  const restore = async () => {
    const words = await setStates(session, table, (one) => before.get(keyOf(one)) ?? one.state);
    if (words !== undefined)
      throw new LifeboatError('PG_RESTORE_FAILED', `the triggers of ${table} cannot be enabled again: ${words}`);
  };
  return { refused, restore };
}

/**
 * Disables the triggers and rules of the tables of entries. `silent` are the entries whose rows can be loaded then; for
 * the others, the server refuses that.
 */
export async function disableTriggersOf(
  session: Session,
  rows: readonly ArchiveEntry[],
): Promise<{ silent: ArchiveEntry[]; restore(): Promise<void> }> {
  const silent: ArchiveEntry[] = [];
  const restores: Disabled['restore'][] = [];
  for (const entry of rows) {
    const { refused, restore } = await disableTriggers(session, quotedTable(entry));
    // Tables of one partition tree are disabled more than once, so the last one is restored first.
    restores.unshift(restore);
    if (refused === undefined) silent.push(entry);
  }
  const restore = async () => {
    for (const one of restores) await one();
  };
  return { silent, restore };
}

const keyOf = ({ kind, table, name }: Firing) => JSON.stringify([kind, table, name]);

function readFiring(session: Session, table: string): Promise<Firing[]> {
  return session.all<Firing>(FIRING, [table]);
}

/**
 * Sets the states of triggers and rules, level by level from the root, because a partition may have another state than
 * its parent. Resolves to the server's words if the server refuses one.
 */
async function setStates(session: Session, table: string, wanted: (one: Firing) => State): Promise<string | undefined> {
  let done = -1;
  for (;;) {
    const wrong = (await readFiring(session, table)).filter((one) => one.depth > done && one.state !== wanted(one));
    const [first] = wrong;
    if (first === undefined) return undefined;
    done = first.depth;
    for (const one of wrong.filter(({ depth }) => depth === done)) {
      const statement = `ALTER TABLE ${one.table} ${CLAUSES[wanted(one)]} ${one.kind} ${quoteIdentifier(one.name)}`;
      const words = await attempt(session, statement);
      if (words !== undefined) return words;
    }
  }
}
