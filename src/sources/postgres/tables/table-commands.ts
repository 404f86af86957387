import { type Connection, databaseArgument, TOOLS } from '../server/commands.ts';
import { quoteIdentifier } from '../server/quote.ts';

/**
 * `pg_dump` takes patterns, not names: inside quotes nothing but a quote has a meaning (psql docs, "Patterns"). A name in
 * two parts matches in that schema alone.
 */
export function tablePattern(schema: string, name: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

const COPY_SCRIPT = `${TOOLS}; file=$1 from=$2 to=$3; shift 3
pg_dump --format=custom --compress=1 --no-sync --no-password --strict-names --file="$file" "$@" "$from" &&
exec pg_restore --single-transaction --exit-on-error --no-password "$to" "$file"`;

interface TableCopy {
  from: string;
  to: string;
  /** the dump between them, to be made */
  file: string;
  tables: { schema: string; name: string }[];
  /** of the databases */
  encoding: string;
}

/**
 * Tables, with what belongs to them, from one database to another of the same server: dumped to a file, then restored in one
 * transaction. The shell gets names as arguments only.
 */
export function copyTablesCommand(connection: Connection, { from, to, file, tables, encoding }: TableCopy): string[] {
  return [
    'sh',
    '-c',
    COPY_SCRIPT,
    'copy-tables',
    file,
    databaseArgument(connection, from),
    databaseArgument(connection, to),
    // Names here are UTF-8, whatever the database has. SQL_ASCII holds bytes of any kind and converts none.
    ...(encoding === 'SQL_ASCII' ? [] : ['--encoding=UTF8']),
    ...tables.map(({ schema, name }) => `--table=${tablePattern(schema, name)}`),
  ];
}
