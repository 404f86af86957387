import { createHash } from 'node:crypto';
import { inService } from './project.ts';

/**
 * The content of a database and a volume, read with their own tools (psql; find and sha256sum) and not with Lifeboat:
 * one line for each part, by name.
 */
export type Fingerprint = Map<string, string>;

const md5 = (text: string) => createHash('md5').update(text).digest('hex').slice(0, 12);
const count = (n: number, one: string, many: string) => `${n.toLocaleString('en-US')} ${n === 1 ? one : many}`;

/** Separates the answers within one command, because each `docker exec` costs time. */
const BETWEEN = '=====';

// Every row of every table as text, in an order that does not depend on the server. Then the definitions of the tables.
const TABLES = `
SELECT format(
  'SELECT %L, count(*), md5(string_agg(whole_row::text, chr(10) ORDER BY whole_row::text COLLATE "C")) FROM %I.%I whole_row',
  schemaname || '.' || tablename, schemaname, tablename)
  FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 \\gexec
`;
const DEFINITIONS = `
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
  FROM pg_constraint WHERE conrelid <> 0 AND connamespace = 'public'::regnamespace
UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT 'view', viewname, viewowner, definition FROM pg_views WHERE schemaname = 'public'
UNION ALL SELECT 'sequence', sequencename, sequenceowner, last_value::text FROM pg_sequences
UNION ALL SELECT 'column', relname, attname, format_type(atttypid, atttypmod) || attnotnull
  FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
 ORDER BY 1, 2, 3, 4;
`;

export async function psql(sql: string, database: string, signal: AbortSignal): Promise<string> {
  const argv = ['psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', '-U', 'shop', '-d', database, '-f', '-'];
  return (await inService('db', argv, signal, sql)).trim();
}

/** Drops the database; resolves to the names of those that are left, when it is gone. */
export function dropDatabase(signal: AbortSignal): Promise<string> {
  const left = `SELECT string_agg(datname, ', ' ORDER BY 1) FROM pg_database WHERE NOT datistemplate`;
  return psql(`DROP DATABASE shop WITH (FORCE);\n${left};\n`, 'postgres', signal);
}

/** Rows and md5 of every table of the database `shop`, and of its definitions. */
export async function ofDatabase(signal: AbortSignal): Promise<Fingerprint> {
  const said = await psql(`${TABLES}\\echo ${BETWEEN}\n${DEFINITIONS}`, 'shop', signal);
  const [tables = '', definitions = ''] = said.split(`\n${BETWEEN}\n`);
  const result: Fingerprint = new Map();
  for (const line of tables.split('\n')) {
    const [name = '', rows, hash = ''] = line.split('|');
    result.set(name, `${count(Number(rows), 'row', 'rows')}, md5 ${hash.slice(0, 12)}`);
  }
  const kinds = definitions.split('\n').map((line) => line.split('|')[0]);
  const of = (kind: string) => kinds.filter((one) => one === kind).length;
  const parts = [
    count(of('column'), 'column', 'columns'),
    count(of('constraint'), 'constraint', 'constraints'),
    count(of('index'), 'index', 'indexes'),
    count(of('view'), 'view', 'views'),
    count(of('sequence'), 'sequence', 'sequences'),
  ];
  result.set('definitions', `${parts.join(', ')}, md5 ${md5(definitions)}`);
  return result;
}

/** The content of the volume: `all` has a line for each entry, and `summary` shows them as parts. */
export interface Tree {
  /** type, mode, owner, time (ns), link target, SHA-256 by path */
  all: Map<string, string>;
  summary: Fingerprint;
}

const LOOK = `cd /srv/media && find . -printf '%y|%m|%U:%G|%T@|%n|%l|%p\\0' && printf '${BETWEEN}\\0' && find . -type f -exec sha256sum --zero {} +`;

interface Entry {
  path: string;
  type: string;
  mode: string;
  owner: string;
  time: string;
  /** how many names the file has, and where a symlink points */
  links: string;
  hash: string;
}

/** Every entry of the volume, the volume's root too. */
export async function ofVolume(signal: AbortSignal): Promise<Tree> {
  const lines = (await inService('web', ['sh', '-c', LOOK], signal)).split('\0').filter((part) => part !== '');
  const middle = lines.indexOf(BETWEEN);
  const hashes = new Map(lines.slice(middle + 1).map((line) => [line.slice(66), line.slice(0, 64)]));
  const entries = lines.slice(0, middle).map((line): Entry => {
    const [type = '', mode = '', owner = '', time = '', names = '', target = '', ...rest] = line.split('|');
    const path = rest.join('|');
    return { path, type, mode, owner, time, links: type === 'd' ? '' : names + target, hash: hashes.get(path) ?? '' };
  });
  entries.sort((a, b) => (a.path < b.path ? -1 : 1));
  return {
    all: new Map(entries.map(({ path, ...rest }) => [path, Object.values(rest).join(' ')])),
    summary: summarise(entries),
  };
}

function summarise(entries: Entry[]): Fingerprint {
  const of = (type: string) => entries.filter((entry) => entry.type === type).length;
  const different = (key: keyof Entry) => `${new Set(entries.map((entry) => entry[key])).size} different`;
  const hashed = (key: keyof Entry) => `md5 ${md5(entries.map((entry) => `${entry.path}\0${entry[key]}`).join('\0'))}`;
  return new Map([
    ['files, by SHA-256', `${count(of('f'), 'file', 'files')}, ${hashed('hash')}`],
    ['directories, links', `${of('d')} and ${of('l')}, ${hashed('links')}`],
    ['owners', `${different('owner')}, ${hashed('owner')}`],
    ['modes', `${different('mode')}, ${hashed('mode')}`],
    ['times of change (ns)', `${different('time')}, ${hashed('time')}`],
  ]);
}

/** Removes everything inside the volume. */
export async function emptyVolume(signal: AbortSignal): Promise<void> {
  await inService('web', ['find', '/srv/media', '-mindepth', '1', '-delete'], signal);
}

/** One line for each part, before and after, and whether all are equal; at least one part must be there. */
export function compare(before: Fingerprint, after: Fingerprint): { lines: string[]; equal: boolean } {
  const names = [...new Set([...before.keys(), ...after.keys()])];
  const width = (texts: string[]) => Math.max(0, ...texts.map((text) => text.length));
  const [nameWidth, valueWidth] = [width(names), width([...before.values()])];
  let equal = names.length > 0;
  const lines = names.flatMap((name) => {
    const [was = 'not there', is = 'not there'] = [before.get(name), after.get(name)];
    const start = `${name.padEnd(nameWidth)}  ${was.padEnd(valueWidth)}  `;
    if (was === is) return [`${start}equal`];
    equal = false;
    return [`${start}NOT EQUAL`, `${' '.repeat(nameWidth)}  ${is}`];
  });
  return { lines, equal };
}
