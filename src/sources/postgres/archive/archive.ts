import { LifeboatError } from '../../../base/errors.ts';

/** One entry of a dump's table of contents. */
export interface ArchiveEntry {
  dumpId: number;
  /** `TABLE`, `TABLE DATA`, `FK CONSTRAINT` … */
  kind: string;
  section: Section;
  /** empty for what belongs to no schema */
  schema: string;
  /**
   * the object's name; for constraints, triggers, rules and policies: the name of their table, a blank, and their own
   * name
   */
  tag: string;
  /** the statements that create it */
  definition: string;
  /** dump ids */
  dependencies: number[];
  /** absent for the default tablespace of the database */
  tablespace?: string;
  /** the file of its rows in the dump directory, without the suffix of a compression; empty if it has no rows */
  file: string;
}

/**
 * Returns the topmost table through which a dump loads the rows of a partition, as the dump writes its name; undefined
 * if it loads them directly. `pg_dump` loads through that table if a hash depends on OIDs, for example the hash of an
 * enum (forcePartitionRootLoad in pg_dump.c). Such rows may correctly end up in other partitions.
 */
export function rootOfLoad({ kind, definition }: ArchiveEntry): string | undefined {
  return kind === 'TABLE DATA' ? /^-- load via partition root ([^\n]+)/.exec(definition)?.[1] : undefined;
}

/** Comments and privileges belong to no section. They follow their object. */
type Section = 'none' | 'pre-data' | 'data' | 'post-data';

const SECTIONS: readonly Section[] = ['none', 'pre-data', 'data', 'post-data'];

/** Minor versions of the format (pg_backup_archiver.h): 14 in Postgres 12 to 15, 15 in 16, 16 in 17 and 18. */
const OLDEST = 14;
const NEWEST = 16;

/**
 * Reads `toc.dat` of a dump directory (ReadHead and ReadToc in pg_backup_archiver.c). `pg_restore --list` shows no
 * dependencies, and its names are ambiguous if they hold blanks or line ends.
 *
 * @param bytes the whole file; names are read as UTF-8, and other bytes become U+FFFD
 * @throws PG_VERSION for an unknown format, PG_DUMP_INCOMPLETE for a damaged file
 */
export function readArchive(bytes: Buffer): ArchiveEntry[] {
  if (bytes.toString('latin1', 0, 5) !== 'PGDMP' || bytes.length < 11) throw damaged();
  const [major, minor, , integerSize] = bytes.subarray(5) as unknown as [number, number, number, number];
  if (major !== 1 || minor < OLDEST || minor > NEWEST) {
    throw new LifeboatError('PG_VERSION', `the dump has format ${major}.${minor}, which this version cannot read`, {
      hint: 'Restore the whole database under another name with --to-database NAME, and copy the tables from there.',
    });
  }
  const reader = new Reader(bytes, integerSize);
  // Compression, the seven numbers of a time, the database and two versions.
  if (minor >= 15) reader.byte();
  else reader.integer();
  for (let i = 0; i < 7; i++) reader.integer();
  for (let i = 0; i < 3; i++) reader.text();
  const entries: ArchiveEntry[] = [];
  for (let left = reader.integer(); left > 0; left--) entries.push(readEntry(reader, minor));
  return entries;
}

function readEntry(reader: Reader, minor: number): ArchiveEntry {
  const dumpId = reader.integer();
  // Whether it has rows, and its ids in the catalogue.
  reader.integer();
  reader.text();
  reader.text();
  const tag = reader.text() ?? '';
  const kind = reader.text() ?? '';
  const section = SECTIONS[reader.integer() - 1];
  const definition = reader.text() ?? '';
  // The statements that drop and copy it.
  reader.text();
  reader.text();
  const schema = reader.text() ?? '';
  const tablespace = reader.text();
  // Access method, kind of relation, owner, and the former "with oids".
  reader.text();
  if (minor >= 16) reader.integer();
  reader.text();
  reader.text();
  const dependencies: number[] = [];
  for (let id = reader.text(); id !== undefined; id = reader.text()) dependencies.push(Number(id));
  const file = reader.text() ?? '';
  if (section === undefined) throw damaged();
  const entry = { dumpId, kind, section, schema, tag, definition, dependencies, file };
  return tablespace ? { ...entry, tablespace } : entry;
}

/** A number is a sign and its bytes, lowest first. A text is its length and its bytes (ReadInt, ReadStr). */
class Reader {
  private readonly bytes: Buffer;
  private readonly integerSize: number;
  private at = 11;

  constructor(bytes: Buffer, integerSize: number) {
    this.bytes = bytes;
    this.integerSize = integerSize;
  }

  byte(): number {
    const value = this.bytes[this.at++];
    if (value === undefined) throw damaged();
    return value;
  }

  integer(): number {
    const negative = this.byte() !== 0;
    let value = 0;
    for (let i = 0; i < this.integerSize; i++) value += this.byte() * 256 ** i;
    return negative ? -value : value;
  }

  /** Reads a text; undefined for NULL. */
  text(): string | undefined {
    const length = this.integer();
    if (length < 0) return undefined;
    const end = this.at + length;
    if (end > this.bytes.length) throw damaged();
    const text = this.bytes.toString('utf8', this.at, end);
    this.at = end;
    return text;
  }
}

function damaged(): LifeboatError {
  return new LifeboatError('PG_DUMP_INCOMPLETE', 'the table of contents of the dump cannot be read', {
    hint: 'Restore an older snapshot, and check this one with `lifeboat check --read-data`.',
  });
}
