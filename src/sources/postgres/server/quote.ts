/**
 * Quoting for the three grammars in which untrusted names appear. Every name in a command line or a statement passes
 * through one of these functions.
 */

/** Quotes an SQL identifier, even if it needs no quotes (Postgres docs, "Lexical Structure", 4.1.1). */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * Quotes an SQL string constant. A text with a backslash gets the escape form, whose meaning does not depend on
 * `standard_conforming_strings` (Postgres docs, 4.1.2).
 */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return text.includes('\\') ? ` E${quoted}` : quoted;
}

/**
 * Builds a libpq keyword/value connection string (Postgres docs, 34.1.1.1). As `--dbname=…`, it prevents a database
 * named `-f/tmp/x` or `host=evil` from being read as an option or as a connection string.
 */
export function conninfo(values: Record<string, string | number>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}='${String(value).replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`)
    .join(' ');
}

/**
 * Returns the name of a database's directory in a dump tree: letters, digits, `_` and `-` unchanged, every other byte
 * as `%XX`. The result has at most three times 63 bytes, so it fits in a file name.
 */
export function databaseDirectory(name: string): string {
  let result = '';
  for (const byte of Buffer.from(name, 'utf8')) {
    const char = String.fromCharCode(byte);
    result += /[A-Za-z0-9_-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return result;
}
