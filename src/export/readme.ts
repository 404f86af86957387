import { formatBytes, plural } from '../report/format.ts';
import type { DatabaseFacts, PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import { heldAt, type Manifest } from '../store/objects/manifest.ts';

/** The facts that describe an export of databases. */
interface Described {
  snapshot: Manifest;
  source: string;
  facts: PostgresFacts;
  /** the databases in the archive */
  databases: readonly DatabaseFacts[];
  /** what the snapshot lacks, for people */
  notes: readonly string[];
}

/** Every server has these, so they are filled and not created. */
const OF_SERVER: ReadonlySet<string> = new Set(['postgres', 'template1']);

/**
 * Writes the README.txt of an export of databases, which says how to load it with the programs of Postgres. Names reach
 * a shell only in single quotes.
 */
export function readmeOf({ snapshot, source, facts, databases, notes }: Described): string {
  const major = Math.floor(facts.server.versionNumber / 10000);
  const zstd = facts.compression === 'zstd';
  const filled = databases.filter(({ contents }) => contents !== 'nothing');
  const empty = databases.filter(({ contents }) => contents === 'nothing');
  const lines = [
    `Postgres databases of ${oneLine(snapshot.project)}, ${source}`,
    `from snapshot ${snapshot.id} of ${heldAt(snapshot)}`,
    `server: Postgres ${oneLine(facts.server.version)}`,
    ...notes.map((note) => `NOTE: ${oneLine(note)}`),
    '',
    'Contents',
    '',
    '  globals.sql    roles with their passwords, and tablespaces (pg_dumpall --globals-only)',
    ...databases.map((one) => `  ${directoryOf(one)}    ${describe(one)}`),
    '  manifest.json  the recorded facts: versions, locales, tables and their rows',
    '',
    `Each database is a directory as pg_dump --format=directory writes it${zstd ? ', compressed with zstd' : ''}.`,
    '',
    'Requirements',
    '',
    `  A server of Postgres ${major} or newer, with its psql, createdb and pg_restore${zstd ? ' (built with zstd)' : ''}.`,
    '  A superuser of that server. Name it for the programs, for example: export PGUSER=postgres',
    ...extensionLines(filled),
    '',
    'Run the commands in the directory of this file.',
    '',
    '1. Create the roles. Errors like "role already exists" are harmless: that role stays unchanged.',
    '',
    '   psql --no-psqlrc --dbname=postgres --file=globals.sql',
    '',
    '2. Load the databases. --jobs is the number of tables that are loaded in parallel.',
    '',
    ...filled.flatMap((one) => [`   ${loadCommand(one)}`]),
    ...(filled.length === 0 ? ['   All of them are empty.'] : []),
    ...(empty.length > 0
      ? ['', `   Left out, because they are empty: ${empty.map(({ name }) => oneLine(name)).join(', ')}`]
      : []),
    '',
    ...otherName(filled),
    '3. Collect statistics for the planner.',
    '',
    '   vacuumdb --all --analyze-only',
    '',
  ];
  return lines.join('\n');
}

function loadCommand(one: DatabaseFacts): string {
  const directory = shellQuote(directoryOf(one));
  const [target, create] = OF_SERVER.has(one.name) ? [one.name, ''] : ['postgres', '--create '];
  return `pg_restore ${create}--exit-on-error --jobs=4 --dbname=${target} ${directory}`;
}

/** The commands that load a database under another name. */
function otherName(databases: readonly DatabaseFacts[]): string[] {
  const one = databases.find(({ name }) => !OF_SERVER.has(name)) ?? databases[0];
  if (!one) return [];
  const { encoding, collate, ctype } = one;
  const locale = `--encoding=${shellQuote(encoding)} --lc-collate=${shellQuote(collate)} --lc-ctype=${shellQuote(ctype)}`;
  return [
    '   --create creates the database with its locale, settings and privileges. It must not exist yet.',
    '   To load it under another name:',
    '',
    `   createdb --template=template0 ${locale} other_name`,
    `   pg_restore --exit-on-error --jobs=4 --dbname=other_name ${shellQuote(directoryOf(one))}`,
    '',
  ];
}

function directoryOf({ name }: DatabaseFacts): string {
  return `databases/${databaseDirectory(name)}`;
}

function describe({ name, size, tables }: DatabaseFacts): string {
  const rows = tables.reduce((sum, table) => sum + (table.data === false ? 0 : table.rows), 0);
  return `database ${oneLine(name)}: ${formatBytes(size)}, ${plural(tables.length, 'table')}, ${plural(rows, 'row')}`;
}

function extensionLines(databases: readonly DatabaseFacts[]): string[] {
  const all = databases.flatMap(({ extensions }) => extensions).filter(({ name }) => name !== 'plpgsql');
  const texts = [...new Set(all.map(({ name, version }) => `${oneLine(name)} ${oneLine(version)}`))].sort();
  return texts.length === 0 ? [] : [`  These extensions, installed on that server: ${texts.join(', ')}`];
}

function shellQuote(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A name from a database must not look like another line or a command. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, '?');
}
