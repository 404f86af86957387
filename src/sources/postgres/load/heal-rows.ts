import path from 'node:path';
import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import type { Failure } from '../archive/restore-failures.ts';
import { writeList } from '../archive/restore-passes.ts';
import { type RunRestoreOptions, runRestore } from '../archive/run-restore.ts';
import { withoutContent } from '../server/messages.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { NAME_LIMIT } from './load-plan.ts';
import { attempt } from './set-constraints-aside.ts';

/** The tables of one healing. All names are quoted, with their schemas. */
interface Tables {
  /** the table of the dump, under the name that it has meanwhile */
  table: string;
  /** takes the rows as text, under the name of the table */
  text: string;
  /** of the dumped columns, and how each one is made of its text */
  columns: string;
  values: string;
}

/** The number of rows that one statement moves: the server answers between statements, which the watchdog waits for. */
const BATCH = 10_000;

const NUMBER = 'lifeboat_row_number';

/**
 * Insufficient resources, operator intervention, and errors of the system: the row is not to blame (Postgres docs,
 * appendix A).
 */
const NOT_OF_ROW = "SQLSTATE ~ '^(53|57|58|XX)'";

/**
 * Loads the rows of tables one by one where COPY refuses one of them, for example because its text is not valid for the
 * type of a column, or because a generated column cannot be computed. The dump is loaded as text into a table in the
 * place of the other one. Rows that the table refuses stay there as text, in a table `<name>__refused`.
 *
 * @param rows entries whose rows fail
 * @param settings of the sessions of `pg_restore`
 * @returns entries that still fail, or lack rows
 */
export async function fillRowByRow(
  options: RunRestoreOptions,
  session: Session,
  rows: readonly { entry: ArchiveEntry; failure: Failure }[],
  settings: readonly string[],
): Promise<Failure[]> {
  const failures: Failure[] = [];
  for (const { entry, failure } of rows) {
    const left = await fillOne(options, session, { entry, failure, settings });
    if (left !== undefined) failures.push(left);
  }
  return failures;
}

async function fillOne(
  options: RunRestoreOptions,
  session: Session,
  { entry, failure, settings }: { entry: ArchiveEntry; failure: Failure; settings: readonly string[] },
): Promise<Failure | undefined> {
  const tables = await makeTextTable(session, entry);
  if (tables === undefined) return failure;
  const { table, text } = tables;
  const list = await writeList(path.posix.join(options.lists, 'text.list'), [entry.dumpId]);
  const unread = await runRestore(options, { list, jobs: 1, settings });
  const back = `ALTER TABLE ${table} RENAME TO ${quoteIdentifier(entry.tag)}`;
  const words = unread.length > 0 ? undefined : await moveRows(session, tables);
  const { all, refused } = await session.one<{ all: string; refused: string }>(
    `SELECT (SELECT count(*) FROM ${text})::text AS refused, (SELECT count(*) FROM ONLY ${table})::text AS all`,
  );
  // Nothing was moved where the dump itself cannot be read.
  if (unread.length > 0 || refused === '0') {
    await session.run(`DROP TABLE ${text}; ${back}`);
    return unread.length > 0 ? failure : undefined;
  }
  await session.run(`ALTER TABLE ${text} DROP COLUMN ${NUMBER}`);
  const kept = await keepRefused(session, entry);
  await session.run(back);
  const total = Number(all) + Number(refused);
  return {
    dumpId: entry.dumpId,
    words: `refused ${refused} of ${plural(total, 'row')}, which ${refused === '1' ? 'is' : 'are'} kept as text in ${kept}: ${words ?? failure.words}`,
  };
}

/** Renames the table and makes one of text columns in its place. Undefined where the server refuses that. */
async function makeTextTable(session: Session, { schema, tag, dumpId }: ArchiveEntry): Promise<Tables | undefined> {
  const [text, aside] = [tag, `lifeboat_set_aside_${dumpId}`].map(
    (name) => `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`,
  ) as [string, string];
  // pg_dump names the columns in its COPY statement, all but generated ones.
  const columns = await session.all<{ name: string; value: string }>(
    `SELECT quote_ident(attname) AS name, quote_ident(attname) || '::' || format_type(atttypid, -1) AS value
       FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum`,
    [text],
  );
  if (columns.length === 0) return undefined;
  const definitions = columns.map(({ name }) => `${name} text`);
  const refused = await attempt(
    session,
    `ALTER TABLE ${text} RENAME TO ${quoteIdentifier(`lifeboat_set_aside_${dumpId}`)};
     CREATE TABLE ${text} (${definitions.join(', ')}, ${NUMBER} bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)`,
  );
  if (refused !== undefined) return undefined;
  const names = columns.map(({ name }) => name).join(', ');
  return { table: aside, text, columns: names, values: columns.map(({ value }) => value).join(', ') };
}

/** Resolves to the server's words about a row that it refuses, if it refuses one. */
async function moveRows(session: Session, tables: Tables): Promise<string | undefined> {
  const { last } = await session.one<{ last: string }>(
    `SELECT coalesce(max(${NUMBER}), 0)::text AS last FROM ${tables.text}`,
  );
  let words: string | undefined;
  await session.run("SELECT set_config('lifeboat.words', '', false)");
  for (let from = 1; from <= Number(last); from += BATCH) {
    const failed = await attempt(session, moveStatement(tables, from, from + BATCH - 1));
    words ??= failed;
  }
  const said = await session.one<{ words: string }>("SELECT current_setting('lifeboat.words') AS words");
  return said.words === '' ? words : withoutContent(said.words);
}

/** All rows at once; where that fails, each for itself. */
function moveStatement({ table, text, columns, values }: Tables, from: number, to: number): string {
  const move = (which: string) =>
    `INSERT INTO ${table} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${values} FROM ${text} WHERE ${NUMBER} ${which};
     DELETE FROM ${text} WHERE ${NUMBER} ${which};`;
  const range = `BETWEEN ${from} AND ${to}`;
  return `DO ${quoteLiteral(`#variable_conflict use_column
DECLARE lifeboat_at bigint;
BEGIN
  BEGIN
    ${move(range)}
    RETURN;
  EXCEPTION WHEN OTHERS THEN
    IF ${NOT_OF_ROW} THEN RAISE; END IF;
  END;
  FOR lifeboat_at IN SELECT ${NUMBER} FROM ${text} WHERE ${NUMBER} ${range} ORDER BY 1 LOOP
    BEGIN
      ${move('= lifeboat_at')}
    EXCEPTION WHEN OTHERS THEN
      IF ${NOT_OF_ROW} THEN RAISE; END IF;
      PERFORM set_config('lifeboat.words', SQLERRM, false);
    END;
  END LOOP;
END`)}`;
}

/** Gives the table of refused rows a name that is free, in the schema of the other one. Resolves to that name. */
async function keepRefused(session: Session, { schema, tag }: ArchiveEntry): Promise<string> {
  const from = `${quoteIdentifier(schema)}.${quoteIdentifier(tag)}`;
  for (let number = 1; ; number++) {
    const end = `__refused${number === 1 ? '' : `_${number}`}`;
    let head = tag;
    while (Buffer.byteLength(head + end) > NAME_LIMIT) head = [...head].slice(0, -1).join('');
    const words = await attempt(session, `ALTER TABLE ${from} RENAME TO ${quoteIdentifier(head + end)}`);
    if (words === undefined) return `${schema}.${head}${end}`;
    if (number === 99) throw new Error(words);
  }
}
