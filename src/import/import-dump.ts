import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { PostgresSource } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import type { PostgresFacts } from '../sources/postgres/facts/facts.ts';
import { capturePostgres } from '../sources/postgres/postgres-source.ts';
import { conninfo, quoteIdentifier, quoteLiteral } from '../sources/postgres/server/quote.ts';
import type { AgentContext } from '../sources/postgres/server/tools.ts';
import type { CaptureContext, CapturedTree } from '../sources/source.ts';
import { unreadable } from '../store/archive/import-errors.ts';
import { writeSpoolFile } from '../store/archive/spool-space.ts';
import { type DumpScan, DumpScanner } from './dump-scan.ts';
import { type ProgramResult, ThrowawayServer } from './throwaway-server.ts';

/** A dump of pg_dump or pg_dumpall without its compression and encryption. */
interface Dump {
  form: 'custom' | 'text';
  stream: Readable;
  /** for the database of a dump that does not name one; default: the database of the source's settings */
  database?: string;
}

export interface ImportDumpDeps {
  agent: AgentContext;
  recordHelper(name: string): void;
}

/** The result of loading a dump. */
interface Loaded extends Pick<ProgramResult, 'errors' | 'errorCount'> {
  /** the databases to store; absent: all of the server */
  databases?: string[];
  exclude?: string[];
  roles: string[];
}

/**
 * Turns a dump into the tree of a Postgres source: loads it into a throwaway server of the source's image, and dumps
 * that server as every backup does. The source's own server is not contacted. Statements that fail are listed in the
 * result, which is then incomplete.
 *
 * @throws IMPORT_UNREADABLE for a dump that is cut, no dump, or empty; IMPORT_REFUSED, SPOOL_FULL, PG_*, HELPER_FAILED,
 * ENGINE_*
 */
export async function importDump(
  deps: ImportDumpDeps,
  planned: PostgresSource,
  dump: Dump,
  context: CaptureContext,
): Promise<CapturedTree> {
  const directory = path.join(path.dirname(context.spool), 'import-dump');
  const file = path.join(directory, 'dump');
  const { agent, recordHelper } = deps;
  try {
    // The programs of the server read it as a user of their image.
    await mkdir(directory, { mode: 0o755 });
    const scan = await spoolDump(dump, file, context);
    const server = await ThrowawayServer.start({ agent, planned, directory, recordHelper, context });
    const name = dump.database ?? planned.database;
    const loaded = await load(server, { form: dump.form, file, scan, name }, planned).catch(async (error: unknown) => {
      await server.remove();
      throw error;
    });
    const source = server.sourceOf(loaded);
    const options = { agent, planned: source, recordHelper, putAside: async () => [] };
    const tree = await capturePostgres(options, context, () => server.remove());
    return describe(tree, loaded);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Writes the dump to the spool, because its roles must exist before it is loaded. */
async function spoolDump(
  { form, stream }: Dump,
  file: string,
  { signal, progress }: CaptureContext,
): Promise<DumpScan> {
  const scanner = new DumpScanner();
  let done = 0;
  async function* scanned(): AsyncGenerator<Buffer> {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      done += chunk.length;
      progress({ phase: 'unpacking', done });
      if (form === 'text') scanner.add(chunk);
      yield chunk;
    }
  }
  await writeSpoolFile(scanned(), file, { mode: 0o444, what: 'the uncompressed dump', signal });
  const scan = scanner.end();
  if (form === 'text' && !scan.complete) {
    throw unreadable(
      'the file is neither an archive nor a complete dump: it does not end as pg_dump and pg_dumpall end theirs',
      undefined,
      'Nothing was stored. The dump may be cut: try an older one. If it was made by another program, load it into a database of your server, and back that up.',
    );
  }
  return scan;
}

interface LoadOptions {
  form: Dump['form'];
  file: string;
  scan: DumpScan;
  name: string;
}

async function load(server: ThrowawayServer, options: LoadOptions, { user }: PostgresSource): Promise<Loaded> {
  const { form, file, scan, name } = options;
  if (form === 'custom') return loadCustom(server, file, name, user);
  const roles = scan.roles.filter((role) => role !== user);
  await createRoles(server, roles);
  const own = scan.databases.length > 0;
  if (!own) await createDatabase(server, name);
  const where = `--dbname=${conninfo({ dbname: own ? 'postgres' : name })}`;
  const result = await server.run('psql', ['--no-psqlrc', '--quiet', '--output=/dev/null', where, `--file=${file}`]);
  if (result.exitCode !== 0) throw unreadable(`psql ended with status ${result.exitCode}: ${result.tail}`);
  const exclude = scan.databases.includes('postgres') ? [] : ['postgres'];
  return { ...result, roles, ...(own ? { exclude } : { databases: [name] }) };
}

async function loadCustom(server: ThrowawayServer, file: string, fallback: string, user: string): Promise<Loaded> {
  const scanner = new DumpScanner();
  let list = '';
  const listed = await server.run('pg_restore', ['--list', file], (chunk) => {
    if (list.length < 4096) list += chunk.toString('utf8');
  });
  const schema = await server.run('pg_restore', ['--schema-only', '--file=-', file], (chunk) => scanner.add(chunk));
  for (const { exitCode, tail } of [listed, schema])
    if (exitCode !== 0) throw unreadable(`the dump cannot be read: ${tail}`);
  const roles = scanner.end().roles.filter((role) => role !== user);
  const name = /^;\s+dbname: (.+)$/m.exec(list)?.[1] ?? fallback;
  await createRoles(server, roles);
  await createDatabase(server, name);
  const result = await server.run('pg_restore', [`--dbname=${conninfo({ dbname: name })}`, file]);
  // It ends with 1 after errors that it passed over, and after those that ended it.
  if (result.exitCode !== 0 && !/errors ignored on restore: \d+/.test(result.tail)) {
    throw unreadable(`pg_restore ended with status ${result.exitCode}: ${result.tail}`);
  }
  return { ...result, databases: [name], roles };
}

async function createRoles(server: ThrowawayServer, roles: readonly string[]): Promise<void> {
  const statements = roles.map((role) => `CREATE ROLE ${quoteIdentifier(role)};`);
  if (statements.length > 0) await server.sql(statements.join('\n'));
}

async function createDatabase(server: ThrowawayServer, name: string): Promise<void> {
  const there = await server.sql(`SELECT 1 FROM pg_database WHERE datname = ${quoteLiteral(name)}`);
  if (there === '') await server.sql(`CREATE DATABASE ${quoteIdentifier(name)} TEMPLATE template0`);
}

function describe(tree: CapturedTree, { errors, errorCount, roles }: Loaded): CapturedTree {
  const { databases } = tree.facts as PostgresFacts & Record<string, unknown>;
  if (databases.every(({ contents }) => contents === 'nothing')) {
    const why = errors[0] === undefined ? '' : `: ${errors[0]}`;
    throw unreadable(`the dump left no table or other object in its databases${why}`);
  }
  const created =
    roles.length === 0
      ? []
      : [`the dump names roles without creating them; they are stored without rights: ${listShort(roles)}`];
  if (errorCount === 0) return { ...tree, warnings: [...tree.warnings, ...created] };
  const shown = errors.slice(0, SHOWN_ERRORS);
  const more = errorCount > shown.length ? [`… and ${plural(errorCount - shown.length, 'more error')}`] : [];
  const incomplete = new LifeboatError(
    'IMPORT_INCOMPLETE',
    `${plural(errorCount, 'statement')} of the dump failed, and what they create is missing`,
    {
      hint: 'The warnings list the errors. If something that you need is missing, unpin the snapshot and import a better dump.',
    },
  );
  return { ...tree, warnings: [...tree.warnings, ...created, ...shown, ...more], incomplete: errorInfo(incomplete) };
}

const SHOWN_ERRORS = 20;
const SHOWN_ROLES = 100;

function listShort(roles: readonly string[]): string {
  const more = roles.length > SHOWN_ROLES ? ` and ${roles.length - SHOWN_ROLES} more` : '';
  return roles.slice(0, SHOWN_ROLES).join(', ') + more;
}
