import { formatBytes, plural } from '../report/format.ts';
import type { DatabaseFacts, PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { databaseDirectory } from '../sources/postgres/server/quote.ts';
import { heldAt, type Manifest } from '../store/objects/manifest.ts';

/** What an export of databases is described by. */
interface Described {
  snapshot: Manifest;
  source: string;
  facts: PostgresFacts;
  /** those that the archive holds */
  databases: readonly DatabaseFacts[];
  /** what the snapshot lacks, for people */
  notes: readonly string[];
}

/** Every server has these, so that they are filled and not made. */
const OF_SERVER: ReadonlySet<string> = new Set(['postgres', 'template1']);

/** The README.txt of an export of databases: how to load it with Postgres' own programs. Names reach a shell in single quotes alone. */
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
    'What is here',
    '',
    '  globals.sql    roles with their passwords, and tablespaces (pg_dumpall --globals-only)',
    ...databases.map((one) => `  ${directoryOf(one)}    ${describe(one)}`),
    '  manifest.json  what was recorded: versions, locales, tables and their rows',
    '',
    `Each database is a directory of pg_dump --format=directory${zstd ? ', compressed with zstd' : ''}.`,
    '',
    'What you need',
    '',
    `  A server of Postgres ${major} or newer, and its own psql, createdb and pg_restore (version ${major} or newer${zstd ? ', built with zstd' : ''}).`,
    '  A superuser of that server. Tell the programs which one, for example: export PGUSER=postgres',
    ...extensionLines(filled),
    '',
    'Run the commands in the directory of this file.',
    '',
    '1. Roles. "role already exists" does no harm: such a role stays as it is.',
    '',
    '   psql --no-psqlrc --dbname=postgres --file=globals.sql',
    '',
    '2. The databases. --jobs is how many tables are loaded at a time.',
    '',
    ...filled.flatMap((one) => [`   ${loadCommand(one)}`]),
    ...(filled.length === 0 ? ['   None of them holds anything.'] : []),
    ...(empty.length > 0
      ? ['', `   Empty, so left out here: ${empty.map(({ name }) => oneLine(name)).join(', ')}`]
      : []),
    '',
    ...otherName(filled),
    '3. Statistics for the planner.',
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

/** With --create the database gets its own name, locale, settings and privileges. */
function otherName(databases: readonly DatabaseFacts[]): string[] {
  const one = databases.find(({ name }) => !OF_SERVER.has(name)) ?? databases[0];
  if (!one) return [];
  const { encoding, collate, ctype } = one;
  const locale = `--encoding=${shellQuote(encoding)} --lc-collate=${shellQuote(collate)} --lc-ctype=${shellQuote(ctype)}`;
  return [
    '   --create makes the database, with its locale, settings and privileges; one of that name must not exist.',
    '   Under another name:',
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
  return texts.length === 0 ? [] : [`  These extensions, installed on it: ${texts.join(', ')}`];
}

function shellQuote(text: string): string {
  return /^[\w./:@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** A name from a database must not look like another line, or like a command of one. */
function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029]/gu, '?');
}
