import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ArchiveEntry } from '../archive/archive.ts';
import { readEntries } from '../archive/restore-passes.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { splitStatements } from '../facts/globals-statements.ts';
import { databaseDirectory, quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import { attempt } from './set-constraints-aside.ts';

/** The tablespaces of a database, and what a restore can do with them. */
interface Tablespaces {
  /** the server has all of them; else `pg_restore` has to ignore them */
  complete: boolean;
  /** the one that the database itself was in, where the server has it */
  own?: string;
  warnings: string[];
  /**
   * Moves objects into the tablespaces that the server has, after a restore that ignored all of them. Resolves to
   * warnings about objects that cannot be moved.
   */
  move(session: Session): Promise<string[]>;
}

/**
 * Creates the tablespaces that a recorded database uses and the server lacks, where their directories exist (Postgres
 * docs, CREATE TABLESPACE: empty, and owned by the server's user). One that cannot be created is a warning.
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
  if (used.size === 0) return { complete: true, warnings: [], move: async () => [] };
  const rows = await control.all<{ name: string }>('SELECT spcname AS name FROM pg_tablespace');
  const present = new Set(rows.map(({ name }) => name));
  const missing = [...used].filter((name) => !present.has(name)).sort();
  const statements =
    missing.length === 0 ? [] : splitStatements(await readFile(path.join(tree, 'globals.sql'), 'utf8'));
  const warnings: string[] = [];
  for (const name of missing) {
    const about = statements.filter((statement) => concerns(statement, name));
    const words = await createTablespace(control, about);
    if (words === undefined) {
      present.add(name);
      continue;
    }
    const create = about[0] === undefined ? '' : ` (${about[0]})`;
    const moved = describeMoved(entries, name, own);
    warnings.push(
      `database ${recorded.name}: the server has no tablespace ${name}, and it cannot be created: ${words}${create}; restored into the default tablespace: ${moved}`,
    );
  }
  return {
    complete: [...used].every((name) => present.has(name)),
    ...(own !== undefined && present.has(own) ? { own } : {}),
    warnings,
    move: (session) => moveObjects(session, recorded.name, { entries, present }),
  };
}

/** The most objects that a warning names. */
const NAMED = 5;

function describeMoved(entries: readonly ArchiveEntry[], name: string, own: string | undefined): string {
  const moved = entries.filter(({ tablespace }) => tablespace === name);
  const named = moved.slice(0, NAMED).map(({ kind, schema, tag }) => `${kind.toLowerCase()} ${schema}.${tag}`);
  const more = moved.length > NAMED ? ` and ${moved.length - NAMED} more` : '';
  return [...(own === name ? ['the database itself'] : []), ...named].join(', ') + more;
}

async function moveObjects(
  session: Session,
  database: string,
  { entries, present }: { entries: readonly ArchiveEntry[]; present: ReadonlySet<string> },
): Promise<string[]> {
  const warnings: string[] = [];
  for (const entry of entries) {
    const { kind, schema, tag, tablespace } = entry;
    if (tablespace === undefined || !present.has(tablespace)) continue;
    const alter = alterStatement(entry, entries);
    const words = alter && (await attempt(session, `${alter} SET TABLESPACE ${quoteIdentifier(tablespace)}`));
    if (words !== undefined)
      warnings.push(
        `database ${database}: ${kind.toLowerCase()} ${schema}.${tag} is not moved into tablespace ${tablespace}: ${words}`,
      );
  }
  return warnings;
}

/** `IF EXISTS`: what the server refused to create is reported already. */
function alterStatement(entry: ArchiveEntry, entries: readonly ArchiveEntry[]): string | undefined {
  const { kind, schema, tag, dependencies } = entry;
  const named = (name: string) => `IF EXISTS ${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  if (kind === 'TABLE' || kind === 'MATERIALIZED VIEW') return `ALTER ${kind} ${named(tag)}`;
  if (kind === 'INDEX') return `ALTER INDEX ${named(tag)}`;
  if (kind !== 'CONSTRAINT') return undefined;
  // Its tag is the table's name, a blank and its own, which its index has too.
  const table = entries.find((one) => one.kind === 'TABLE' && dependencies.includes(one.dumpId));
  return table && `ALTER INDEX ${named(tag.slice(table.tag.length + 1))}`;
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

/** Between the name and the place, as `pg_dumpall` writes them. */
const OWNER = /^(CREATE TABLESPACE (?:"(?:[^"]|"")*"|\S+)) OWNER (?:"(?:[^"]|"")*"|\S+)/;

/** Resolves to why it could not be created. Its other properties, such as its owner and grants, are optional. */
async function createTablespace(control: Session, statements: readonly string[]): Promise<string | undefined> {
  const [create, ...others] = statements;
  if (create === undefined) return 'the snapshot does not say where it was';
  try {
    // The server may lack the role that owned it, which owns none of the data in it.
    await control.run(create).catch(() => control.run(create.replace(OWNER, '$1')));
  } catch (error) {
    const words = serverWords(error);
    if (words === undefined) throw error;
    return words;
  }
  for (const statement of others) await control.run(statement).catch(() => undefined);
  return undefined;
}
