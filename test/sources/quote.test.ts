import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  conninfo,
  databaseDirectory,
  databaseOfDirectory,
  parseConninfo,
  quoteIdentifier,
  quoteLiteral,
} from '../../src/sources/postgres/quote.ts';

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });

describe('quoting', () => {
  it('round-trips any value through a connection string', () => {
    fc.assert(
      fc.property(name, name, (dbname, user) => {
        expect(parseConninfo(conninfo({ dbname, user }))).toEqual({ dbname, user });
      }),
    );
  });

  it('gives every database name a directory name of its own, and back', () => {
    fc.assert(
      fc.property(name, (database) => {
        const directory = databaseDirectory(database);
        expect(directory).toMatch(/^[A-Za-z0-9_%-]+$/);
        expect(databaseOfDirectory(directory)).toBe(database);
      }),
    );
  });

  it('closes no quote early', () => {
    expect(quoteIdentifier('a"b')).toBe('"a""b"');
    expect(quoteLiteral("a'b")).toBe("'a''b'");
    expect(quoteLiteral("a\\'b")).toBe(" E'a\\\\''b'");
    expect(conninfo({ dbname: "x' host=evil" })).toBe("dbname='x\\' host=evil'");
  });
});
