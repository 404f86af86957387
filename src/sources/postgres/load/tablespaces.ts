import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { DatabaseFacts } from '../facts/facts.ts';
import { splitStatements } from '../facts/globals-statements.ts';
import { databaseDirectory, quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import { readEntries } from './restore-passes.ts';

/** What a restore can do with the tablespaces of a database. */
interface Tablespaces {
  /** all that its objects are in are there */
  complete: boolean;
  /** the one that the database itself was in, where that is there */
  own?: string;
  warnings: string[];
}

/**
 * Makes the tablespaces that a recorded database uses and the server lacks, where their directories exist (Postgres docs,
 * CREATE TABLESPACE: empty, and owned by the server's user). One that cannot be made is a warning.
 *
 * @param tree the fetched tree, with `globals.sql` in it
 */
export async function prepareTablespaces(
  control: Session,
  recorded: DatabaseFacts,
  tree: string,
): Promise<Tablespaces> {
  const entries = await readEntries(path.join(tree, 'databases', databaseDirectory(recorded.name)));
  const used = new Set(entries.flatMap(({ tablespace }) => tablespace ?? []));
  const own = recorded.tablespace;
  if (own !== undefined) used.add(own);
  if (used.size === 0) return { complete: true, warnings: [] };
  const rows = await control.all<{ name: string }>('SELECT spcname AS name FROM pg_tablespace');
  const present = new Set(rows.map(({ name }) => name));
  const missing = [...used].filter((name) => !present.has(name)).sort();
  const statements =
    missing.length === 0 ? [] : splitStatements(await readFile(path.join(tree, 'globals.sql'), 'utf8'));
  const warnings: string[] = [];
  for (const name of missing) {
    const about = statements.filter((statement) => concerns(statement, name));
    const words = await makeTablespace(control, about);
    if (words === undefined) {
      present.add(name);
      continue;
    }
    const create = about[0] === undefined ? '' : ` (${about[0]})`;
    warnings.push(
      `database ${recorded.name}: tablespace ${name} is not there and cannot be made: ${words}${create}; what was in it is restored into the default tablespace`,
    );
  }
  return {
    complete: [...used].every((name) => present.has(name)),
    ...(own !== undefined && present.has(own) ? { own } : {}),
    warnings,
  };
}

function concerns(statement: string, name: string): boolean {
  return [name, quoteIdentifier(name)].some((form) =>
    new RegExp(
      `^(?:CREATE|ALTER|COMMENT ON|GRANT \\w+ ON|REVOKE \\w+ ON) TABLESPACE ${escapePattern(form)}(?![\\w$"])`,
    ).test(statement),
  );
}

function escapePattern(text: string): string {
  return text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

/** Resolves to why it could not be made. What else is said of it, such as its grants, may fail. */
async function makeTablespace(control: Session, statements: readonly string[]): Promise<string | undefined> {
  const [create, ...others] = statements;
  if (create === undefined) return 'the snapshot does not say where it was';
  try {
    await control.run(create);
  } catch (error) {
    const words = serverWords(error);
    if (words === undefined) throw error;
    return words;
  }
  for (const statement of others) await control.run(statement).catch(() => undefined);
  return undefined;
}
