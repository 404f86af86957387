import { LifeboatError } from '../../../base/errors.ts';
import type { PostgresSource } from '../../../plan/model.ts';
import { quoteIdentifier } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** A database of a server, as listed before its dump. */
export interface DatabaseListing {
  name: string;
  /** bytes, of tables and indexes; 0 when it is closed */
  size: number;
  /** why nobody can connect to it, in words */
  closed?: string;
  /** a DROP DATABASE was interrupted, and the server only allows another DROP DATABASE */
  invalid?: true;
  /** serves as a template of new databases: CREATE DATABASE … TEMPLATE */
  template?: boolean;
}

/**
 * Lists every database of a server, sorted by name. A connection limit of -2 marks a database whose DROP was
 * interrupted: nobody can connect to it, and pg_dumpall skips it too. If the role may not connect to a database, its
 * size is reported as 0 (Postgres docs, pg_database_size).
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

/** A selected database that is not dumped, and the reason. */
export interface MissingDatabase {
  name: string;
  error: unknown;
}

/** The databases to dump, and the selected ones that cannot be dumped. */
interface ChosenDatabases {
  databases: DatabaseListing[];
  /** selected, but cannot be dumped */
  missing: MissingDatabase[];
  /** selected because all are, but nobody can connect to them */
  closed: MissingDatabase[];
  /** templates that no setting names, apart from those that every server has */
  templates: string[];
  /** about databases that are left out */
  warnings: string[];
}

/**
 * Returns a warning if the settings of the container name a database that the server does not have. It was dropped,
 * renamed, or never created: those settings only count when the data directory is first created.
 *
 * @param named the name, after a file that holds it was read
 */
export function missingNamed(planned: PostgresSource, named: string, all: readonly DatabaseListing[]): string[] {
  const { databaseFrom, containerName } = planned;
  if (databaseFrom === undefined || all.some(({ name }) => name === named)) return [];
  const has = all.map(({ name }) => name).join(', ');
  return [`${databaseFrom} names database ${named}, which ${containerName} does not have; it has ${has}`];
}

/** A database that a restore put aside. */
export interface Aside {
  name: string;
  /** a snapshot holds exactly this data */
  stored: boolean;
  /** recognised only by its name: the state has no restore that put it aside */
  forgotten?: true;
}

/** initdb creates these on every server. */
const OF_SERVER = ['template0', 'template1'];

/**
 * Chooses the databases to dump: the named ones, or all except templates and databases that restores put aside. A later
 * restore of the server would bring the latter back after they were dropped. Names are compared as a whole, never as
 * patterns.
 *
 * Warns of an old database that no snapshot holds, and of a closed one. A database that a setting names is missing
 * if it is closed or does not exist.
 *
 * @throws PG_DATABASE_UNKNOWN, PG_NAME_UNSUPPORTED if nothing is left
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
          `database ${name} is not backed up: ${why}; exclude it (lifeboat.postgres.exclude-databases) if that is intended`,
      ),
      ...asideWarnings(aside.filter(({ name, stored }) => !stored && unasked.some((one) => one.name === name))),
    ],
  };
}

/** Returns one warning for all databases of a kind, because there may be many and reports show only some warnings. */
function asideWarnings(aside: readonly Aside[]): string[] {
  return [false, true].flatMap((forgotten) => {
    const names = aside.filter((one) => (one.forgotten ?? false) === forgotten).map(({ name }) => name);
    if (names.length === 0) return [];
    const [databases, are, they, them, their] =
      names.length === 1
        ? ['database', 'is', 'it holds', 'it', 'its name shows']
        : ['databases', 'are', 'they hold', 'them', 'their names show'];
    const which = `${databases} ${names.join(', ')}`;
    return forgotten
      ? `${which} ${are} not backed up: ${their} that a restore put ${them} aside or did not finish ${them}; drop ${them}, or use lifeboat.postgres.databases`
      : `${which}, which a restore put aside, ${are} not backed up, and no snapshot has the data that ${they}; \`lifeboat rollback --forget\` drops ${them}`;
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

/** Returns why a selected database cannot be dumped, if the user has to act. */
function whyNot({ name, closed, invalid }: DatabaseListing, { containerName, databases }: PostgresSource) {
  // A name that is not UTF-8 arrives with replacement characters, and would name another database or none.
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

/**
 * Returns the error for a closed database. For an invalid one, the server says `cannot connect to invalid database`,
 * and `Use DROP DATABASE to drop invalid databases.`
 */
function closedError(
  { name, closed, invalid }: Pick<DatabaseListing, 'name' | 'closed' | 'invalid'>,
  containerName: string,
  otherwise = 'exclude it (lifeboat.postgres.exclude-databases)',
): LifeboatError {
  return new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has a database ${name}, but ${closed}`, {
    hint: invalid
      ? `It is invalid, and the server only allows dropping it: DROP DATABASE ${quoteIdentifier(name)}. If you need its data, restore it from an older snapshot. Until then, ${otherwise}.`
      : `Allow connections to it (ALTER DATABASE … ALLOW_CONNECTIONS true), or ${otherwise}.`,
  });
}
