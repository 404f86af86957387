import { LifeboatError } from '../../../base/errors.ts';
import { shellWord } from '../../../report/restore-command.ts';
import { NAME_LIMIT } from '../load/load-plan.ts';
import { quoteIdentifier } from '../server/quote.ts';

/** An object with a name in a schema. */
export interface Named {
  schema: string;
  name: string;
}

/** Returns the name as SQL takes it. */
export function quoteName({ schema, name }: Named): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
}

/**
 * Derives the name of an object that belongs to a table when the table is renamed: `orders_pkey` becomes
 * `orders_then_pkey`, and a name that does not begin with the table's name gets it as a prefix. The result may be too
 * long, see {@link freeName}.
 */
export function derivedName(name: string, from: string, to: string): string {
  return name.startsWith(from) ? to + name.slice(from.length) : `${to}_${name}`;
}

/** Returns `name`, cut at a character to the longest name of Postgres, with a number added if it is taken. */
export function freeName(name: string, taken: ReadonlySet<string>): string {
  for (let number = 0; ; number++) {
    const suffix = number === 0 ? '' : `_${number}`;
    const characters = [...name];
    while (Buffer.byteLength(characters.join('') + suffix) > NAME_LIMIT) characters.pop();
    const candidate = characters.join('') + suffix;
    if (!taken.has(candidate)) return candidate;
  }
}

/** A part of a name as a user writes it. */
interface NamePart {
  text: string;
  isQuoted: boolean;
}

const PART = '"(?:[^"]|"")+"|[^".]+';
const SQL_NAME = new RegExp(`^(?:(${PART})\\.)?(${PART})$`);

/** A table name as SQL reads it. `schema` is absent if the name does not have one. */
export interface TableName {
  schema?: string;
  name: string;
}

/**
 * Reads a table name in SQL's form, such as `public."user"` (PostgreSQL docs, 4.1.1 Identifiers and Key Words).
 *
 * @returns the name with unquoted parts as they are written, then with unquoted parts in lower case, which is how SQL
 *   reads them; nothing if the text does not have this form
 */
export function readTableNames(text: string): TableName[] {
  const [, schema, name] = SQL_NAME.exec(text) ?? [];
  if (name === undefined) return [];
  const parts = [schema, name].flatMap((part) => (part === undefined ? [] : [readPart(part)]));
  const forms = [parts.map((part) => part.text), parts.map((part) => (part.isQuoted ? part.text : fold(part.text)))];
  return forms.map((form) => {
    const [last = '', inSchema] = form.toReversed();
    return { ...(inSchema === undefined ? {} : { schema: inSchema }), name: last };
  });
}

/**
 * Returns the new name of a table. It may be quoted as in SQL, and must be if it has a dot: without quotes, a dot
 * separates a schema, as in `--table`. A name with quotes that is not in SQL's form counts as it is written.
 *
 * @throws USAGE
 */
export function readNewName(as: string, schema: string): string {
  const [read] = readTableNames(as);
  const isUnquoted = !as.includes('"');
  const name = read?.name ?? (isUnquoted ? as.slice(as.lastIndexOf('.') + 1) : as);
  if (name === '' || Buffer.byteLength(name) > NAME_LIMIT) {
    throw new LifeboatError('USAGE', 'a table name has 1 to 63 bytes', { hint: 'Choose another name.' });
  }
  if (isUnquoted ? !as.includes('.') : read?.schema === undefined) return name;
  const other = `For a name with a dot, use --as ${shellWord(quoteIdentifier(as))}.`;
  throw new LifeboatError('USAGE', `--as is a name without a schema: the table stays in ${schema}`, {
    hint: `Use --as ${shellWord(isUnquoted ? name : quoteIdentifier(name))}.${isUnquoted ? ` ${other}` : ''}`,
  });
}

function readPart(part: string): NamePart {
  const isQuoted = part.startsWith('"');
  return { text: isQuoted ? part.slice(1, -1).replaceAll('""', '"') : part, isQuoted };
}

/** Postgres changes ASCII letters only, in databases with more than one byte a character. */
function fold(text: string): string {
  return text.replaceAll(/[A-Z]/g, (letter) => letter.toLowerCase());
}
