import { errorInfo, type LifeboatError, toLifeboatError } from '../../../base/errors.ts';
import { oneLineStatement } from '../../../report/restore-command.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { readLeads } from '../load/lead-functions.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import type { LaterIndex } from './copy-tables.ts';
import { type Named, quoteName } from './table-names.ts';
import { displayName, type ForeignKey, type TableParts } from './table-parts.ts';
import type { Shaped } from './table-shape.ts';

/** The longest wait of a statement for a lock on a live table. Other sessions wait behind it. */
const LOCK_TIMEOUT = '10s';

/** An object that is created after the tables are copied, by one statement or by several in order. */
interface Link {
  what: string;
  sql: string[];
  /** runs if a later statement fails */
  undo?: string;
  /** signatures of functions that may need a search_path for it */
  functions?: readonly string[];
}

/** The input of {@link makeLinks}. */
interface Made {
  recorded: DatabaseFacts;
  parts: TableParts;
  shaped: Shaped;
  /** indexes that the copied tables lack */
  indexes: readonly LaterIndex[];
  /** the tables have another name, next to the present ones */
  copy: boolean;
}

/**
 * Creates the links of restored tables one by one: attachments to partitioned tables, foreign keys, statistics, and
 * indexes that were left out. Never rejects, because the tables are restored.
 *
 * @returns warnings about links that failed, each with its statement
 */
export async function makeLinks(
  open: () => Promise<Session>,
  { recorded, parts, shaped, indexes, copy }: Made,
): Promise<string[]> {
  const links: Link[] = [
    ...indexes.map(({ what, sql, functions }) => ({ what, sql: [sql], functions })),
    ...shaped.links.map(({ what, sql }) => ({ what, sql: [sql] })),
    ...(copy ? [] : parts.foreignKeys.map(foreignKey)),
    ...shaped.statistics.map(({ what, sql }) => ({ what, sql: [sql] })),
  ];
  const warnings = leftOut(parts, copy);
  if (links.length === 0) return warnings;
  let session: Session | undefined;
  try {
    session = await open();
    await session.run(`SET lock_timeout = '${LOCK_TIMEOUT}'`);
    for (let link = links.shift(); link; link = links.shift()) {
      const error = await make(session, recorded, link);
      if (error) warnings.push(notMade(link, error));
    }
  } catch (error) {
    warnings.push(...links.map((link) => notMade(link, toLifeboatError(error))));
  } finally {
    await session?.close();
  }
  return warnings;
}

/** Adds a key without checking rows, and then checks them, so the other table is only locked for a moment. */
function foreignKey({ name, sql, table }: ForeignKey): Link {
  const what = `foreign key ${name} of ${displayName(table.entry)}`;
  const partitioned = /\)\nPARTITION BY /.test(table.entry.definition);
  // Partitioned tables do not support two steps before Postgres 18. A key that was NOT VALID stays so.
  if (partitioned || sql.endsWith(' NOT VALID')) return { what, sql: [sql] };
  const alter = `ALTER TABLE ${quoteName(table)}`;
  const constraint = quoteIdentifier(name);
  return {
    what,
    sql: [`${sql} NOT VALID`, `${alter} VALIDATE CONSTRAINT ${constraint}`],
    undo: `${alter} DROP CONSTRAINT ${constraint}`,
  };
}

/** Returns the error if a statement fails. */
async function make(
  session: Session,
  recorded: DatabaseFacts,
  { sql, undo, functions = [] }: Link,
): Promise<LifeboatError | undefined> {
  for (const [i, statement] of sql.entries()) {
    try {
      if (functions.length === 0) await session.run(statement);
      else await runWithPath(session, recorded, { statement, functions });
    } catch (error) {
      if (i > 0 && undo !== undefined) await session.run(undo).catch(() => undefined);
      return toLifeboatError(error);
    }
  }
  return undefined;
}

/**
 * Runs a statement while functions of the live database have the search_path of the recorded database. Everything
 * happens in one transaction, so other sessions never see that path, and a failure reverts it. Live functions that have
 * a search_path of their own keep it: somebody may have set it since the backup.
 */
async function runWithPath(
  session: Session,
  recorded: DatabaseFacts,
  { statement, functions }: { statement: string; functions: readonly string[] },
): Promise<void> {
  await session.run('BEGIN');
  try {
    const leads = await readLeads(session, recorded, functions);
    await session.run([...leads.map(({ set }) => set), statement, ...leads.map(({ reset }) => reset)].join('; '));
    await session.run('COMMIT');
  } catch (error) {
    await session.run('ROLLBACK').catch(() => undefined);
    throw error;
  }
}

function notMade({ what, sql }: Link, error: LifeboatError): string {
  const why = errorInfo(error).cause ?? error.message;
  return `${what} was left out (${why}); ${advice('when the cause is corrected', sql[0]?.replace(/ NOT VALID$/, '') ?? '')}`;
}

/** Words the advice to run a statement. In backticks, messages keep it whole. */
function advice(when: string, sql: string): string {
  const line = oneLineStatement(sql);
  if (line !== undefined) return `${when}, run: \`${line}\``;
  return `${when}, run its statement, which \`pg_restore --schema-only\` prints from the dump that --to-directory writes`;
}

/** Warns of objects of these tables that a restore of single tables leaves out. */
function leftOut(parts: TableParts, copy: boolean): string[] {
  const warn = (words: string, names: readonly string[]) =>
    names.length === 0 ? [] : [`${words}: ${names.join(', ')}`];
  if (copy) {
    return [
      ...warn(
        'the copy has no foreign keys',
        parts.foreignKeys.map(({ name }) => name),
      ),
      ...warn('the copy has no triggers and rules', parts.triggers),
    ];
  }
  return [
    ...parts.keysOfOthers.map(({ what, sql }) => `foreign key ${what} is not restored; ${advice('to add it', sql)}`),
    ...warn('views on it are not restored', parts.views),
    ...warn('publications do not include it again (ALTER PUBLICATION … ADD TABLE …)', parts.publications),
  ];
}

/** Reads the privileges on tables, as lists of `role=letters/grantor`. */
async function privileges(session: Session, tables: readonly Named[]): Promise<string[]> {
  const rows = await session.all<{ items: string }>(
    `SELECT (SELECT string_agg(a::text, ' ' ORDER BY a::text)
               FROM unnest(coalesce(c.relacl, acldefault('r', c.relowner))) a) AS items
       FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w(s, t, i)
       JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t ORDER BY i`,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
  );
  return rows.map(({ items }) => items);
}

/** Warns if default privileges of the database (ALTER DEFAULT PRIVILEGES) were added to those of a table. */
export async function privilegeWarnings(working: Session, live: Session, tables: readonly Named[]): Promise<string[]> {
  const before = await privileges(working, tables);
  const after = await privileges(live, tables);
  return tables.flatMap(({ schema, name }, i) =>
    before[i] === after[i]
      ? []
      : [`default privileges of the database were added to ${schema}.${name}: it had ${before[i]}, now ${after[i]}`],
  );
}
