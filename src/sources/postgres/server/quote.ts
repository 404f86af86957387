/**
 * Quoting for the three grammars that a name from a stranger passes through. A name never reaches a command line or a
 * statement any other way.
 */

/** An SQL identifier, always quoted (Postgres docs, "Lexical Structure", 4.1.1). */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/**
 * An SQL string constant. With a backslash inside it takes the escape form, so that it means the same whatever
 * `standard_conforming_strings` says (Postgres docs, 4.1.2).
 */
export function quoteLiteral(text: string): string {
  const quoted = `'${text.replaceAll("'", "''").replaceAll('\\', '\\\\')}'`;
  return text.includes('\\') ? ` E${quoted}` : quoted;
}

/**
 * A libpq keyword/value connection string (Postgres docs, 34.1.1.1). Handing one over as `--dbname=…` is what keeps a
 * database named `-f/tmp/x` or `host=evil` from being read as an option or a connection string.
 */
export function conninfo(values: Record<string, string | number>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}='${String(value).replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`)
    .join(' ');
}

/**
 * A directory name for a database inside a dump tree: letters, digits, `_`, `-` as they are, every other byte as `%XX`.
 * At most three times 63 bytes, so it fits a file name.
 */
export function databaseDirectory(name: string): string {
  let result = '';
  for (const byte of Buffer.from(name, 'utf8')) {
    const char = String.fromCharCode(byte);
    result += /[A-Za-z0-9_-]/.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return result;
}
