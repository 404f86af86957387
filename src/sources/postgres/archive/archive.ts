import { LifeboatError } from '../../../base/errors.ts';

/** One entry of a dump's table of contents. */
export interface ArchiveEntry {
  dumpId: number;
  /** `TABLE`, `TABLE DATA`, `FK CONSTRAINT` … */
  kind: string;
  section: Section;
  /** empty for what belongs to no schema */
  schema: string;
  /** the object's name; of constraints, triggers, rules and policies that of their table, a blank and their own */
  tag: string;
  /** the statements that make it */
  definition: string;
  /** dump ids */
  dependencies: number[];
  /** that it is in, where it is not in the database's own; absent for that */
  tablespace?: string;
  /** name of its content's file in the dump directory, without the suffix of a compression; empty where it has none */
  file: string;
}

/** Comments and privileges are of no section: they go with what they are about. */
type Section = 'none' | 'pre-data' | 'data' | 'post-data';

const SECTIONS: readonly Section[] = ['none', 'pre-data', 'data', 'post-data'];

/** Minor versions of the format (pg_backup_archiver.h): 14 is that of Postgres 12 to 15, 15 of 16, 16 of 17 and 18. */
const OLDEST = 14;
const NEWEST = 16;

/**
 * Reads `toc.dat` of a dump directory (ReadHead and ReadToc in pg_backup_archiver.c). `pg_restore --list` tells less: not
 * what depends on what, and a name with blanks or line ends in it cannot be told from two.
 *
 * @param bytes the whole file; its names are taken as UTF-8, so that others come out with U+FFFD in them
 *
 * Errors: PG_VERSION for a format that is not known, PG_DUMP_INCOMPLETE for a file that cannot be read.
 */
export function readArchive(bytes: Buffer): ArchiveEntry[] {
  if (bytes.toString('latin1', 0, 5) !== 'PGDMP' || bytes.length < 11) throw damaged();
  const [major, minor, , integerSize] = bytes.subarray(5) as unknown as [number, number, number, number];
  if (major !== 1 || minor < OLDEST || minor > NEWEST) {
    throw new LifeboatError(
      'PG_VERSION',
      `the dump has format ${major}.${minor}, into which this version cannot look`,
      {
        hint: 'Restore the whole database beside the present one with --to-database NAME, and copy from there.',
      },
    );
  }
  const reader = new Reader(bytes, integerSize);
  // Compression, seven numbers of a time, names of the database and of two versions.
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
  // Whether it has content, and its ids in the catalogue.
  reader.integer();
  reader.text();
  reader.text();
  const tag = reader.text() ?? '';
  const kind = reader.text() ?? '';
  const section = SECTIONS[reader.integer() - 1];
  const definition = reader.text() ?? '';
  // The statements to drop and to copy it.
  reader.text();
  reader.text();
  const schema = reader.text() ?? '';
  const tablespace = reader.text();
  // Access method, kind of relation, owner, and what was once "with oids".
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

/** Numbers are a sign and their bytes, lowest first; texts a number and so many bytes (ReadInt, ReadStr). */
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

  /** undefined for none */
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
    hint: 'Take an older snapshot, and look at this one with `lifeboat check --read-data`.',
  });
}
