import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ArchiveEntry, readArchive } from '../../../../src/sources/postgres/archive/archive.ts';

const ORDER = ['none', 'pre-data', 'data', 'post-data'] as const;

/** Writes the format of `pg_dump`, according to the same source files. */
function writeArchive(entries: readonly ArchiveEntry[], minor: number): Buffer {
  const parts: Buffer[] = [Buffer.from('PGDMP'), Buffer.from([1, minor, 0, 4, 8, 3])];
  const integer = (value: number) => {
    const bytes = Buffer.alloc(5);
    bytes[0] = value < 0 ? 1 : 0;
    bytes.writeUInt32LE(Math.abs(value), 1);
    parts.push(bytes);
  };
  const text = (value: string | undefined) => {
    integer(value === undefined ? -1 : Buffer.byteLength(value));
    if (value !== undefined) parts.push(Buffer.from(value));
  };
  if (minor >= 15) parts.push(Buffer.from([1]));
  else integer(-1);
  for (let i = 0; i < 7; i++) integer(i);
  for (const value of ['app', '17.4', '17.4']) text(value);
  integer(entries.length);
  for (const entry of entries) {
    integer(entry.dumpId);
    integer(entry.file === '' ? 0 : 1);
    for (const value of ['1259', '16385', entry.tag, entry.kind]) text(value);
    integer(ORDER.indexOf(entry.section) + 1);
    for (const value of [entry.definition, '', undefined, entry.schema || undefined, entry.tablespace, 'heap'])
      text(value);
    if (minor >= 16) integer(114);
    for (const value of ['owner', 'false', ...entry.dependencies.map(String), undefined]) text(value);
    text(entry.file || undefined);
  }
  return Buffer.concat(parts);
}

const word = fc.string({ unit: 'grapheme', maxLength: 20 });
const id = fc.integer({ min: 1, max: 100_000 });
const entry: fc.Arbitrary<ArchiveEntry> = fc
  .record({
    dumpId: id,
    kind: word,
    section: fc.constantFrom(...ORDER),
    schema: word,
    tag: word,
    definition: word,
    dependencies: fc.array(id, { maxLength: 4 }),
    file: word,
  })
  .chain((plain) => fc.constantFrom(plain, { ...plain, tablespace: 'fast' }));

describe('the table of contents of a dump', () => {
  it.each([14, 15, 16])('is read in format 1.%i, whatever the names are', (minor) => {
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 5 }), (entries) => {
        expect(readArchive(writeArchive(entries, minor))).toEqual(entries);
      }),
      { numRuns: 50 },
    );
  });

  it.each([13, 17])('is read as Postgres %i writes it', (version) => {
    const entries = readArchive(readFileSync(path.join(import.meta.dirname, `../dumps/${version}.toc.dat`)));
    const odd = entries.filter(({ tag }) => tag === 'odd "$(x)\n*;').map(({ kind, file }) => `${kind} ${file !== ''}`);
    expect(odd).toEqual(['TABLE false', 'TABLE DATA true']);
    const ids = new Set(entries.map(({ dumpId }) => dumpId));
    const orders = entries.find(({ kind, schema, tag }) => `${kind} ${schema} ${tag}` === 'TABLE public orders');
    expect(orders?.definition).toMatch(/^CREATE TABLE public\.orders \(\n/);
    const data = entries.find(({ kind, schema, tag }) => `${kind} ${schema} ${tag}` === 'TABLE DATA public orders');
    expect(data).toMatchObject({ section: 'data', dependencies: [orders?.dumpId], file: `${data?.dumpId}.dat` });
    expect(entries.filter(({ kind }) => kind === 'TABLE').flatMap(({ dependencies }) => dependencies)).toSatisfy(
      (found: number[]) => found.length > 0 && found.every((one) => ids.has(one)),
    );
  });

  it('is refused if it is cut off at any place, or is another file', () => {
    const whole = readFileSync(path.join(import.meta.dirname, '../dumps/17.toc.dat'));
    const code = (bytes: Buffer) => {
      try {
        return readArchive(bytes).length;
      } catch (error) {
        return (error as { code?: string }).code;
      }
    };
    const cuts = Array.from({ length: 40 }, (_, i) => Math.floor((whole.length * i) / 40));
    expect(new Set(cuts.map((cut) => code(whole.subarray(0, cut))))).toEqual(new Set(['PG_DUMP_INCOMPLETE']));
    const newer = Buffer.from(whole);
    newer[6] = 17;
    expect(code(newer)).toBe('PG_VERSION');
  });
});
