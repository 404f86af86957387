import { LifeboatError } from '../../../base/errors.ts';
import { suggest } from '../../../plan/values/suggest.ts';
import { type ArchiveEntry, rootOfLoad } from '../archive/archive.ts';
import { quoteIdentifier } from '../server/quote.ts';
import { readTableNames, type TableName } from './table-names.ts';

/** Kinds of relations that a user may mistake for tables. */
const OTHER_RELATIONS = ['VIEW', 'MATERIALIZED VIEW', 'FOREIGN TABLE', 'SEQUENCE'];

/**
 * Finds the table that a user names: `schema.name`, or a bare name for a table in `public` or the only one of that
 * name. Both may have quoted parts, as in SQL. A name counts as it is written. If no table has that name, unquoted
 * parts count in lower case, as in SQL.
 *
 * @throws PG_TABLE_UNKNOWN
 */
export function findTable(entries: readonly ArchiveEntry[], asked: string): ArchiveEntry {
  const relations = entries.filter(({ kind }) => kind === 'TABLE' || OTHER_RELATIONS.includes(kind));
  const found = named(relations, asked);
  const tables = found.filter(({ kind }) => kind === 'TABLE');
  const [table, ...others] = tables.length > 0 ? tables : found;
  if (table && others.length > 0) {
    throw new LifeboatError('PG_TABLE_UNKNOWN', `${asked} may be any of several tables`, {
      hint: `Choose one: ${tables.map(quoted).join(' or ')}.`,
    });
  }
  if (table?.kind === 'TABLE') return withOwnRows(entries, table);
  if (table) {
    throw new LifeboatError('PG_TABLE_UNKNOWN', `${asked} is a ${table.kind.toLowerCase()}, not a table`, {
      hint: 'Restore the database under another name with --to-database NAME, and copy its definition from there.',
    });
  }
  const names = entries.filter(({ kind }) => kind === 'TABLE').map(displayName);
  const [{ schema, name: last } = { name: asked }] = readTableNames(asked);
  const plain = schema === undefined ? last : `${schema}.${last}`;
  const near = suggest(plain, names) ?? names.find((name) => name.endsWith(`.${plain.split('.').at(-1)}`));
  const some = names.slice(0, 5).join(', ');
  throw new LifeboatError('PG_TABLE_UNKNOWN', `the snapshot has no table ${asked}`, {
    hint: near
      ? `Did you mean ${near}?`
      : names.length > 0
        ? `It has ${some}${names.length > 5 ? ' …' : ''}.`
        : 'It has none.',
  });
}

/** The rows of a hypertable of TimescaleDB lie in tables of the extension: without them it would come back empty. */
function withOwnRows(entries: readonly ArchiveEntry[], table: ArchiveEntry): ArchiveEntry {
  const inChunks = entries.some(
    ({ kind, schema, dependencies }) =>
      kind === 'TABLE' && schema.startsWith('_timescaledb_') && dependencies.includes(table.dumpId),
  );
  if (!inChunks) return table;
  throw new LifeboatError('PG_TABLE_UNKNOWN', `${displayName(table)} is a hypertable, whose rows are in other tables`, {
    hint: 'Restore the database under another name with --to-database NAME, and copy the rows from there.',
  });
}

/** Finds the relations that a name stands for: the first reading that matches any. */
function named(relations: readonly ArchiveEntry[], asked: string): ArchiveEntry[] {
  const qualified = relations.filter((entry) => displayName(entry) === asked);
  if (qualified.length > 0) return qualified;
  for (const { schema, name } of [{ name: asked }, ...readTableNames(asked)] as TableName[]) {
    const found = relations.filter(({ tag }) => tag === name);
    const wanted = schema ?? 'public';
    const inSchema = found.filter((entry) => entry.schema === wanted);
    if (inSchema.length > 0) return inSchema;
    if (schema === undefined && found.length > 0) return found;
  }
  return [];
}

/** `schema.name` */
export function displayName({ schema, tag }: Pick<ArchiveEntry, 'schema' | 'tag'>): string {
  return `${schema}.${tag}`;
}

function quoted({ schema, tag }: ArchiveEntry): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(tag)}`;
}

/** A foreign key from a chosen table to any other, or itself. */
export interface ForeignKey {
  name: string;
  /** `ALTER TABLE … ADD CONSTRAINT …` without a semicolon */
  sql: string;
  table: ChosenTable;
}

export interface ChosenTable {
  schema: string;
  name: string;
  /** dump id of the requested table: of this table, or of the one whose partition it is */
  root: number;
  entry: ArchiveEntry;
}

/** The parts of a dump that a restore of tables needs. */
export interface TableParts {
  /** the requested tables and their partitions */
  tables: ChosenTable[];
  /** dump ids of the entries to restore into the working database, in the order of the dump */
  entries: number[];
  /** files of the dump directory that hold the rows, as the table of contents names them */
  files: string[];
  /** foreign keys of these tables; `entries` leaves them out */
  foreignKeys: ForeignKey[];
  triggers: string[];
  /** foreign keys of other tables to these: `schema.table key`, and the statement without a semicolon */
  keysOfOthers: { what: string; sql: string }[];
  /** views that read these tables */
  views: string[];
  publications: string[];
}

/**
 * Kinds of objects that belong to a table and follow its rows. Foreign keys and publications also affect other objects,
 * and are handled separately.
 */
const OF_TABLE = ['CONSTRAINT', 'CHECK CONSTRAINT', 'INDEX', 'STATISTICS', 'ROW SECURITY', 'POLICY'];
/** The database itself, and large objects: a dump does not say which table uses them. */
const NEVER = ['DATABASE', 'DATABASE PROPERTIES', 'BLOB', 'BLOB METADATA', 'BLOBS'];
/** Objects that act when rows are written. On a copy of the table they would act twice. */
const ACTIVE = ['TRIGGER', 'RULE'];

interface PartsOptions {
  /** the tables get another name, next to the present ones, without triggers and rules */
  copy: boolean;
  /** extensions that cannot be created in the working database, with the schemas that hold only their objects */
  without?: readonly { extension: string; schema: string }[];
}

/**
 * Selects the entries of a dump that tables need: all definitions before the data, because a table may need any type or
 * function; the state of all sequences; the rows of these tables; and their indexes, constraints, statistics, policies,
 * triggers and rules.
 */
export function partsOf(
  all: readonly ArchiveEntry[],
  roots: readonly ArchiveEntry[],
  { copy, without = [] }: PartsOptions,
): TableParts {
  const tables = withPartitions(all, roots);
  const ids = new Set(tables.map(({ entry }) => entry.dumpId));
  const ofTables = ({ dependencies }: ArchiveEntry) => dependencies.some((id) => ids.has(id));
  const ofKind = (...kinds: string[]) => all.filter((entry) => kinds.includes(entry.kind) && ofTables(entry));
  const kinds = copy ? OF_TABLE : [...OF_TABLE, ...ACTIVE];
  const wanted = new Set<number>();
  for (const entry of all) if (isWanted(entry)) wanted.add(entry.dumpId);

  function isWanted(entry: ArchiveEntry): boolean {
    const { kind, section, dependencies } = entry;
    if (NEVER.includes(kind) || without.some((extension) => isOf(entry, extension))) return false;
    if (section === 'pre-data') return true;
    if (section === 'none') return dependencies.some((id) => wanted.has(id));
    if (kind === 'SEQUENCE SET') return true;
    if (kind === 'INDEX ATTACH') return dependencies.every((id) => wanted.has(id));
    return (kind === 'TABLE DATA' || kinds.includes(kind)) && ofTables(entry);
  }

  refuseLonePartitions(tables, ofKind('TABLE DATA'));
  const keys = ofKind('FK CONSTRAINT').map((entry) => ({
    entry,
    table: tables.find((table) => alters(entry, table.entry)),
  }));
  return {
    tables,
    entries: [...wanted],
    files: ofKind('TABLE DATA').map(({ file }) => file),
    foreignKeys: keys.flatMap(({ entry, table }) => (table ? [foreignKey(entry, table)] : [])),
    triggers: ofKind(...ACTIVE).map(({ tag }) => tag),
    keysOfOthers: keys.flatMap(({ entry, table }) =>
      table ? [] : [{ what: displayName(entry), sql: statementOf(entry) }],
    ),
    views: ofKind('VIEW', 'MATERIALIZED VIEW').map(displayName),
    publications: ofKind('PUBLICATION TABLE').map(({ tag }) => tag),
  };
}

/**
 * Refuses a partition whose rows are loaded through the topmost table and may land in any partition. @throws
 * PG_TABLE_UNKNOWN
 */
function refuseLonePartitions(tables: readonly ChosenTable[], data: readonly ArchiveEntry[]): void {
  for (const entry of data) {
    const root = rootOfLoad(entry);
    if (root === undefined || tables.some((table) => spellings(table.entry).includes(root))) continue;
    throw new LifeboatError(
      'PG_TABLE_UNKNOWN',
      `${displayName(entry)} is a partition whose rows a restore may insert into other partitions of ${root}`,
      { hint: `Restore the whole table: --table ${root}.` },
    );
  }
}

function isOf({ kind, tag, schema }: ArchiveEntry, left: { extension: string; schema: string }): boolean {
  if (kind === 'EXTENSION') return tag === left.extension;
  return schema === left.schema || (kind === 'SCHEMA' && tag === left.schema);
}

function foreignKey({ tag, definition }: ArchiveEntry, table: ChosenTable): ForeignKey {
  return { name: tag.slice(table.name.length + 1), sql: statementOf({ definition }), table };
}

function statementOf({ definition }: Pick<ArchiveEntry, 'definition'>): string {
  return definition.trim().replace(/;$/, '');
}

/** Returns the tables with their partitions at any depth, without tables that only inherit. */
function withPartitions(all: readonly ArchiveEntry[], roots: readonly ArchiveEntry[]): ChosenTable[] {
  const found = new Map<number, ChosenTable>();
  const add = (entry: ArchiveEntry, root: number) => {
    if (!found.has(entry.dumpId)) found.set(entry.dumpId, { schema: entry.schema, name: entry.tag, root, entry });
  };
  for (const root of roots) add(root, root.dumpId);
  // The iteration over a map includes values that are added during it.
  for (const { entry: parent, root } of found.values()) {
    for (const table of all) if (table.kind === 'TABLE' && isPartition(all, table, parent)) add(table, root);
  }
  return [...found.values()];
}

function isPartition(all: readonly ArchiveEntry[], table: ArchiveEntry, parent: ArchiveEntry): boolean {
  if (!table.dependencies.includes(parent.dumpId)) return false;
  const attached = all.some(
    ({ kind, dependencies }) =>
      kind === 'TABLE ATTACH' && dependencies.includes(table.dumpId) && dependencies.includes(parent.dumpId),
  );
  // Up to Postgres 13 it is part of the table's own definition.
  const within = (name: string) => table.definition.includes(`;\nALTER TABLE ONLY ${name} ATTACH PARTITION `);
  return attached || spellings(parent).some(within);
}

/** Returns whether a definition is an `ALTER TABLE` of a table. */
function alters({ definition }: ArchiveEntry, table: ArchiveEntry): boolean {
  return spellings(table).some((name) =>
    ['', 'ONLY '].some((only) => definition.startsWith(`ALTER TABLE ${only}${name}\n`)),
  );
}

/** Returns the forms in which pg_dump may write a name: it only adds quotes that are necessary. */
function spellings({ schema, tag }: ArchiveEntry): string[] {
  const forms = (name: string) => [name, quoteIdentifier(name)];
  return forms(schema).flatMap((s) => forms(tag).map((t) => `${s}.${t}`));
}
