import type { SkippedObject } from '../../../report/events.ts';
import { isRefusal } from '../facts/count-rows.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';

/** A constraint that does not apply while rows are loaded. */
interface Constraint {
  kind: 'check constraint' | 'not-null constraint' | 'domain constraint';
  /** as reports name it: `public.orders total_check`, `public.orders.total` */
  name: string;
  drop: string;
  /** adds it and has the server check the present rows */
  add: string;
  /** adds it for new rows only; absent where Postgres has no such form */
  addForNew?: string;
  /** checks the present rows of one that was added for new rows only */
  validate?: string;
  /** one of the objects that {@link ObjectCounts} counts as constraints */
  isCounted: boolean;
}

/** The tables of a list and everything that they inherit from, the ancestors first (`depth`). */
const ANCESTORS = `WITH RECURSIVE steps AS (
    SELECT to_regclass(t)::oid AS id, 0 AS depth FROM unnest($1::text[]) t
    UNION SELECT inhparent, depth + 1 FROM steps JOIN pg_inherits ON inhrelid = id),
  ancestors AS (SELECT id, max(depth) AS depth FROM steps GROUP BY id)`;

/**
 * An inherited constraint can only be dropped where it was defined. Dropping it there may leave one of the same name
 * that is defined in a child too. Contype n is a constraint of its own from Postgres 18 on.
 */
const TABLE_CONSTRAINTS = `${ANCESTORS}
  SELECT format('%I.%I', nspname, relname) AS table, nspname || '.' || relname AS shown, conname AS name,
         contype = 'n' AS "isNotNull", pg_get_constraintdef(c.oid) AS definition, obj_description(c.oid, 'pg_constraint') AS comment
    FROM ancestors JOIN pg_constraint c ON conrelid = id JOIN pg_class r ON r.oid = id JOIN pg_namespace n ON n.oid = relnamespace
   WHERE contype IN ('c', 'n') AND coninhcount = 0
   ORDER BY depth DESC, id, conname`;

/** Up to Postgres 17. ALTER TABLE … DROP NOT NULL reaches all children, so those of the children are noted too. */
const NOT_NULL_COLUMNS = `${ANCESTORS},
  below AS (SELECT id, depth, 0 AS down FROM ancestors UNION SELECT inhrelid, depth, down + 1 FROM below JOIN pg_inherits ON inhparent = id),
  family AS (SELECT id, max(depth - down) AS place FROM below GROUP BY id)
  SELECT format('%I.%I', nspname, relname) AS table, nspname || '.' || relname AS shown, attname AS column
    FROM family JOIN pg_attribute a ON attrelid = id JOIN pg_class r ON r.oid = id JOIN pg_namespace n ON n.oid = relnamespace
   WHERE attnum > 0 AND NOT attisdropped AND attnotnull AND attidentity = ''
   ORDER BY place DESC, id, attnum`;

/** Domains that columns have, also inside arrays, composite types, ranges and other domains. */
const DOMAINS = `WITH RECURSIVE types(id) AS (
    SELECT atttypid FROM unnest($1::text[]) t JOIN pg_attribute ON attrelid = to_regclass(t) WHERE attnum > 0 AND NOT attisdropped
    UNION SELECT part.id FROM types JOIN pg_type y ON y.oid = types.id, LATERAL (
      SELECT typbasetype UNION ALL SELECT typelem
      UNION ALL SELECT atttypid FROM pg_attribute WHERE typrelid <> 0 AND attrelid = typrelid AND attnum > 0 AND NOT attisdropped
      UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = y.oid) part(id) WHERE part.id <> 0),
  domains AS (SELECT y.oid AS id, typnotnull, format('%I.%I', nspname, typname) AS domain, nspname || '.' || typname AS shown
    FROM types JOIN pg_type y ON y.oid = types.id JOIN pg_namespace n ON n.oid = typnamespace WHERE typtype = 'd')`;

const DOMAIN_CONSTRAINTS = `${DOMAINS}
  SELECT domain, shown, conname AS name, pg_get_constraintdef(c.oid) AS definition, obj_description(c.oid, 'pg_constraint') AS comment
    FROM domains JOIN pg_constraint c ON contypid = id AND contype = 'c'
  UNION ALL SELECT domain, shown, NULL, NULL, NULL FROM domains WHERE typnotnull
   ORDER BY 1, 3`;

interface TableConstraint {
  table: string;
  shown: string;
  name: string;
  isNotNull: boolean;
  definition: string;
  comment: string | null;
}

/**
 * Drops the CHECK and NOT NULL constraints of tables and of what these inherit from. One that the server does not let
 * go stays.
 *
 * @param tables quoted, with their schemas
 * @returns what was dropped, in the order in which it can come back
 */
export async function dropTableConstraints(session: Session, tables: readonly string[]): Promise<Constraint[]> {
  const dropped: Constraint[] = [];
  const seen = new Set<string>();
  for (;;) {
    const rows = await session.all<TableConstraint>(TABLE_CONSTRAINTS, [tables]);
    const next = rows.map(tableConstraint).filter(({ drop }) => !seen.has(drop));
    if (next.length === 0) break;
    for (const constraint of next) {
      seen.add(constraint.drop);
      if ((await attempt(session, constraint.drop)) === undefined) dropped.push(constraint);
    }
  }
  if (session.versionNumber < 180_000) dropped.push(...(await dropNotNull(session, tables)));
  return dropped;
}

function tableConstraint({ table, shown, name, isNotNull, definition, comment }: TableConstraint): Constraint {
  const constraint = quoteIdentifier(name);
  const described =
    comment === null ? '' : `; COMMENT ON CONSTRAINT ${constraint} ON ${table} IS ${quoteLiteral(comment)}`;
  return {
    kind: isNotNull ? 'not-null constraint' : 'check constraint',
    name: `${shown} ${name}`,
    drop: `ALTER TABLE ${table} DROP CONSTRAINT ${constraint}`,
    ...additions(`ALTER TABLE ${table}`, constraint, { definition, described }),
    isCounted: !isNotNull,
  };
}

/**
 * The statement that brings a constraint back to what `alter` alters. One that was not valid in the snapshot is not
 * validated here.
 */
function additions(
  alter: string,
  constraint: string,
  { definition, described }: { definition: string; described: string },
): Pick<Constraint, 'add' | 'addForNew' | 'validate'> {
  const add = `${alter} ADD CONSTRAINT ${constraint} ${definition}`;
  if (definition.endsWith(' NOT VALID')) return { add: `${add}${described}` };
  return {
    add: `${add}${described}`,
    addForNew: `${add} NOT VALID${described}`,
    validate: `${alter} VALIDATE CONSTRAINT ${constraint}`,
  };
}

async function dropNotNull(session: Session, tables: readonly string[]): Promise<Constraint[]> {
  const rows = await session.all<{ table: string; shown: string; column: string }>(NOT_NULL_COLUMNS, [tables]);
  const all = rows.map(({ table, shown, column }): Constraint => {
    const alter = `ALTER TABLE ${table} ALTER COLUMN ${quoteIdentifier(column)}`;
    return {
      kind: 'not-null constraint',
      name: `${shown}.${column}`,
      drop: `${alter} DROP NOT NULL`,
      add: `${alter} SET NOT NULL`,
      isCounted: false,
    };
  });
  const dropped: Constraint[] = [];
  for (const one of all) if ((await attempt(session, one.drop)) === undefined) dropped.push(one);
  return dropped;
}

/**
 * Drops the constraints of the domains that columns of tables have.
 *
 * @param tables quoted, with their schemas
 * @returns what was dropped
 */
export async function dropDomainConstraints(session: Session, tables: readonly string[]): Promise<Constraint[]> {
  const rows = await session.all<
    Record<'domain' | 'shown', string> & Record<'name' | 'definition' | 'comment', string | null>
  >(DOMAIN_CONSTRAINTS, [tables]);
  const all = rows.map(({ domain, shown, name, definition, comment }): Constraint => {
    const alter = `ALTER DOMAIN ${domain}`;
    if (name === null || definition === null) {
      const add = `${alter} SET NOT NULL`;
      return { kind: 'domain constraint', name: shown, drop: `${alter} DROP NOT NULL`, add, isCounted: false };
    }
    const constraint = quoteIdentifier(name);
    const described =
      comment === null ? '' : `; COMMENT ON CONSTRAINT ${constraint} ON DOMAIN ${domain} IS ${quoteLiteral(comment)}`;
    return {
      kind: 'domain constraint',
      name: `${shown} ${name}`,
      drop: `${alter} DROP CONSTRAINT ${constraint}`,
      ...additions(alter, constraint, { definition, described }),
      isCounted: true,
    };
  });
  const dropped: Constraint[] = [];
  for (const one of all) if ((await attempt(session, one.drop)) === undefined) dropped.push(one);
  return dropped;
}

/** The result of {@link putBack}. */
interface PutBack {
  /** constraints that do not hold for the present rows, or are missing */
  lost: SkippedObject[];
  /** how many are missing of those that {@link ObjectCounts} counts as constraints */
  gone: number;
}

/**
 * Adds constraints again: for all rows, else for new rows only (NOT VALID). Reports those for which the first is
 * refused.
 */
export async function putBack(session: Session, database: string, dropped: readonly Constraint[]): Promise<PutBack> {
  const lost: SkippedObject[] = [];
  let gone = 0;
  for (const { kind, name, add, addForNew, validate, isCounted } of dropped) {
    const words = await attempt(session, add);
    if (words === undefined) continue;
    const isThere = addForNew !== undefined && (await attempt(session, addForNew)) === undefined;
    if (!isThere && isCounted) gone++;
    lost.push({
      ...{ database, kind, name, statement: isThere && validate !== undefined ? validate : add },
      message: `the rows are restored ${isThere ? 'and it applies to new rows only' : 'without it'}: ${words}`,
    });
  }
  return { lost, gone };
}

/** Runs a statement. Resolves to the server's words if the server refused it. */
export async function attempt(session: Session, sql: string): Promise<string | undefined> {
  try {
    await session.run(sql);
    return undefined;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return serverWords(error) ?? String(error);
  }
}

export type { Constraint };
