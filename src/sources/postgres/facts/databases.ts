import { LifeboatError } from '../../../base/errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** A database of a server as it is listed before its dump. */
export interface DatabaseListing {
  name: string;
  /** bytes, of tables and indexes; 0 when it is closed */
  size: number;
  /** why nobody can connect to it, in words */
  closed?: string;
  /** a DROP DATABASE of it was interrupted, and nothing but another one is possible */
  invalid?: true;
  /** others can be made from it: CREATE DATABASE … TEMPLATE */
  template?: boolean;
}

/**
 * Every database of a server, by name. A connection limit of -2 marks one whose DROP was interrupted: nobody can connect to
 * it any more, and the server's own tools pass it over too (pg_dumpall). The size of one that the role may not connect to is not
 * known, and 0 (Postgres docs, pg_database_size).
 */
export async function listDatabases(session: Session): Promise<DatabaseListing[]> {
  const rows = await session.all<
    { name: string; size: string; closed: string | null } & Record<'template' | 'invalid', boolean>
  >(
    `SELECT datname AS name, closed, datistemplate AS template, datconnlimit = -2 AS invalid,
            CASE WHEN closed IS NULL AND (has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE'))
                 THEN coalesce(pg_database_size(oid), 0) ELSE 0 END::text AS size
       FROM pg_database, LATERAL (SELECT CASE
         WHEN datconnlimit = -2 THEN 'a DROP DATABASE of it was interrupted'
         WHEN NOT datallowconn THEN 'it allows no connections' END AS closed) c
      ORDER BY datname COLLATE "C"`,
  );
  return rows.map(({ name, size, closed, template, invalid }) => ({
    name,
    size: Number(size),
    ...(closed === null ? {} : { closed }),
    ...(invalid ? { invalid } : {}),
    ...(template ? { template } : {}),
  }));
}

/** A database that was to be dumped and is not, and why. */
export interface MissingDatabase {
  name: string;
  error: unknown;
}

/** Which databases to dump, and which of those that should be cannot be. */
interface ChosenDatabases {
  databases: DatabaseListing[];
  /** named, or among all, and not to be dumped */
  missing: MissingDatabase[];
  /** among all, and nobody can connect to them */
  closed: MissingDatabase[];
  /** templates that nobody named, apart from those that every server has */
  templates: string[];
  /** of databases that nobody can connect to, in words */
  warnings: string[];
}

/**
 * What to tell of a database that the container's settings name and the server does not have: it was dropped or renamed, or never made, since
 * those settings only count when the data directory is first made. `named`: as they name it, resolved.
 */
export function missingNamed(planned: PostgresSource, named: string, all: readonly DatabaseListing[]): string[] {
  const { databaseFrom, containerName } = planned;
  if (databaseFrom === undefined || all.some(({ name }) => name === named)) return [];
  const has = all.map(({ name }) => name).join(', ');
  return [`${databaseFrom} names database ${named}, which ${containerName} does not have; it has ${has}`];
}

/** A database that a restore keeps aside. `stored`: a snapshot was taken of just this data. */
export interface Aside {
  name: string;
  stored: boolean;
  /** recognised by its name alone: no restore is remembered that put it aside */
  forgotten?: true;
}

/** Every server has these, as initdb makes them. */
const OF_SERVER = ['template0', 'template1'];

/**
 * Which databases to dump: those named, or all but templates and those kept aside by restores, which a restore of the server
 * would bring back after they were forgotten; of data that no snapshot has this is told. Names are matched whole, never as
 * patterns. One that is closed is told; one that was asked for by its name, and is closed or not there, is missing.
 *
 * Errors, when nothing is left: PG_DATABASE_UNKNOWN, PG_NAME_UNSUPPORTED.
 */
export function chooseDatabases(
  planned: PostgresSource,
  all: readonly DatabaseListing[],
  aside: readonly Aside[],
): ChosenDatabases {
  const { containerName, databases: named, excludeDatabases: excluded } = planned;
  const isAside = (name: string) => aside.some((one) => one.name === name);
  const wanted = all
    .filter(({ name }) => !excluded.includes(name))
    .filter(({ name, template }) => named?.includes(name) ?? (!template && !isAside(name)));
  const missing: MissingDatabase[] = unknownNames(planned, all);
  const databases: DatabaseListing[] = [];
  for (const database of wanted) {
    const error = whyNot(database, planned);
    if (error) missing.push({ name: database.name, error });
    else if (database.closed === undefined) databases.push(database);
  }
  if (databases.length === 0) {
    throw (
      missing[0]?.error ??
      new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has no database left to back up`, {
        hint: 'Every database is excluded or closed: check lifeboat.postgres.exclude-databases.',
      })
    );
  }
  const closed = wanted.filter((one) => one.closed !== undefined && named === undefined);
  const unasked = named === undefined ? all.filter(({ name }) => !excluded.includes(name)) : [];
  return {
    databases,
    missing,
    closed: closed.map((one) => ({ name: one.name, error: closedError(one, containerName) })),
    templates: unasked.flatMap(({ name, template }) => (template && !OF_SERVER.includes(name) ? [name] : [])),
    warnings: [
      ...closed.map(
        ({ name, closed: why }) =>
          `database ${name} is not backed up: ${why}; exclude it (lifeboat.postgres.exclude-databases) if that is right`,
      ),
      ...asideWarnings(aside.filter(({ name, stored }) => !stored && unasked.some((one) => one.name === name))),
    ],
  };
}

/** Returns one text for all databases of a kind, because there may be many and reports name only some warnings. */
function asideWarnings(aside: readonly Aside[]): string[] {
  return [false, true].flatMap((forgotten) => {
    const names = aside.filter((one) => (one.forgotten ?? false) === forgotten).map(({ name }) => name);
    if (names.length === 0) return [];
    const [databases, are, they, them] =
      names.length === 1 ? ['database', 'is', 'it holds', 'it'] : ['databases', 'are', 'they hold', 'them'];
    const which = `${databases} ${names.join(', ')}`;
    return forgotten
      ? `${which} ${are} not backed up: by the name, a restore put ${them} aside or did not finish ${them}; drop ${them}, or use lifeboat.postgres.databases`
      : `${which}, which a restore put aside, ${are} not backed up, and no snapshot has what ${they}; \`lifeboat rollback --forget\` drops ${them}`;
  });
}

function unknownNames({ containerName, databases = [] }: PostgresSource, all: readonly DatabaseListing[]) {
  const hint = `It has: ${all.map(({ name }) => name).join(', ')}. Correct lifeboat.postgres.databases.`;
  return databases
    .filter((name) => !all.some((database) => database.name === name))
    .map((name) => ({
      name,
      error: new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has no database ${name}`, { hint }),
    }));
}

/** Why a database that is wanted cannot be dumped, where somebody has to do something about it. */
function whyNot({ name, closed, invalid }: DatabaseListing, { containerName, databases }: PostgresSource) {
  // A name that is not UTF-8 arrives with replacement characters and would name another database, or none.
  if (closed === undefined && name.includes('\ufffd')) {
    return new LifeboatError('PG_NAME_UNSUPPORTED', `${containerName} has a database whose name is not UTF-8`, {
      hint: 'Rename it, or leave it out by naming the others in lifeboat.postgres.databases.',
    });
  }
  if (closed === undefined || databases === undefined) return undefined;
  return closedError(
    { name, closed, ...(invalid ? { invalid } : {}) },
    containerName,
    'take it out of lifeboat.postgres.databases',
  );
}

/** The server says of an invalid one: `cannot connect to invalid database`, and `Use DROP DATABASE to drop invalid databases.` */
function closedError(
  { name, closed, invalid }: Pick<DatabaseListing, 'name' | 'closed' | 'invalid'>,
  containerName: string,
  otherwise = 'exclude it (lifeboat.postgres.exclude-databases)',
): LifeboatError {
  return new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has a database ${name}, but ${closed}`, {
    hint: invalid
      ? `It is invalid, and the server only lets it be dropped: DROP DATABASE ${quoteIdentifier(name)}. If you need its data, restore it from an older snapshot. Until then, ${otherwise}.`
      : `Let it be connected to (ALTER DATABASE … ALLOW_CONNECTIONS true), or ${otherwise}.`,
  });
}
