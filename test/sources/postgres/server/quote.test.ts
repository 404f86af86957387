import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  conninfo,
  databaseDirectory,
  quoteIdentifier,
  quoteLiteral,
} from '../../../../src/sources/postgres/server/quote.ts';

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 });

/** Parses a connection string as libpq does. */
function parseConninfo(text: string): Record<string, string> {
  const values: Record<string, string> = {};
  for (const match of text.matchAll(/(\w+)='((?:[^'\\]|\\.)*)'/gs)) {
    values[match[1] as string] = (match[2] as string).replace(/\\(.)/gs, '$1');
  }
  return values;
}

describe('quoting', () => {
  it('round-trips any value through a connection string', () => {
    fc.assert(
      fc.property(name, name, (dbname, user) => {
        expect(parseConninfo(conninfo({ dbname, user }))).toEqual({ dbname, user });
      }),
    );
  });

  it('gives every database name a unique directory name', () => {
    fc.assert(
      fc.property(name, (database) => {
        const directory = databaseDirectory(database);
        expect(directory).toMatch(/^[A-Za-z0-9_%-]+$/);
        // Percent-encoding as in URLs: a name that decodes to its origin is unique.
        expect(decodeURIComponent(directory)).toBe(database);
      }),
    );
  });

  it('never closes a quote early', () => {
    expect(quoteIdentifier('a"b')).toBe('"a""b"');
    expect(quoteLiteral("a'b")).toBe("'a''b'");
    expect(quoteLiteral("a\\'b")).toBe(" E'a\\\\''b'");
    expect(conninfo({ dbname: "x' host=evil" })).toBe("dbname='x\\' host=evil'");
  });
});
