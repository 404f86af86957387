import { type Connection, databaseArgument, TOOLS } from '../server/commands.ts';
import { quoteIdentifier } from '../server/quote.ts';

/**
 * Returns a pattern for `pg_dump --table` that matches one table. Inside quotes, only a quote is special (psql docs,
 * "Patterns"), and a name in two parts only matches in its schema.
 */
export function tablePattern(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

/**
 * The statement that `pg_dump` writes first into each dump, and one of the same length that sets the search_path of
 * PGOPTIONS.
 */
const NO_PATH = "SELECT pg_catalog.set_config('search_path', '', false);";
const OWN_PATH = 'SET search_path TO DEFAULT;'.padEnd(NO_PATH.length);

const COPY_SCRIPT = `${TOOLS}; file=$1 from=$2 to=$3 path=$4; shift 4
rm -rf "$file"
pg_dump --format=directory --compress=1 --no-sync --no-password --strict-names --file="$file" "$@" "$from" || exit
if [ -n "$path" ]; then
  LC_ALL=C sed -i "s/${NO_PATH.replaceAll(/[.()]/g, '[$&]')}/${OWN_PATH}/" "$file/toc.dat" || exit
  export PGOPTIONS="$PGOPTIONS -c search_path=$path"
fi
exec pg_restore --single-transaction --exit-on-error --no-password "$to" "$file"`;

interface TableCopy {
  from: string;
  to: string;
  /** directory of the dump between them, which is replaced */
  file: string;
  tables: { schema: string; name: string }[];
  /** of the databases */
  encoding: string;
  /** schemas in which functions find what they name without a schema; absent: none */
  path?: readonly string[];
}

/**
 * Builds the command that copies tables, with what belongs to them, from one database to another of the same server:
 * dumped to files, then restored in one transaction. The shell gets names as arguments only.
 */
export function copyTablesCommand(connection: Connection, copy: TableCopy): string[] {
  const { from, to, file, tables, encoding, path = [] } = copy;
  return [
    'sh',
    '-c',
    COPY_SCRIPT,
    'copy-tables',
    file,
    databaseArgument(connection, from),
    databaseArgument(connection, to),
    // In PGOPTIONS a backslash goes before blanks and backslashes (libpq docs, 34.1.2, options).
    path
      .map(quoteIdentifier)
      .join(',')
      .replaceAll(/[\s\\]/g, '\\$&'),
    // Names here are UTF-8, whatever the database has. SQL_ASCII holds bytes of any kind and converts none.
    ...(encoding === 'SQL_ASCII' ? [] : ['--encoding=UTF8']),
    ...tables.map(({ schema, name }) => `--table=${tablePattern(schema, name)}`),
  ];
}
