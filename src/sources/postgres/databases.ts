import { LifeboatError } from '../../errors.ts';
import type { PostgresSource } from '../../plan/model.ts';
import type { Session } from './session.ts';

/** A database of a server as it is listed before its dump. */
export interface DatabaseListing {
  name: string;
  /** bytes, of tables and indexes; 0 when it is closed */
  size: number;
  /** why nobody can connect to it, in words */
  closed?: string;
}

/**
 * Every database but templates, by name. A connection limit of -2 marks one whose DROP was interrupted: nobody can connect to
 * it any more, and the server's own tools pass it over too (pg_dumpall).
 */
export async function listDatabases(session: Session): Promise<DatabaseListing[]> {
  const rows = await session.all<{ name: string; size: string; closed: string | null }>(
    `SELECT datname AS name, closed, CASE WHEN closed IS NULL THEN pg_database_size(oid) ELSE 0 END::text AS size
       FROM pg_database, LATERAL (SELECT CASE
         WHEN datconnlimit = -2 THEN 'a DROP DATABASE of it was interrupted'
         WHEN NOT datallowconn THEN 'it allows no connections' END AS closed) c
      WHERE NOT datistemplate ORDER BY datname COLLATE "C"`,
  );
  return rows.map(({ name, size, closed }) => ({ name, size: Number(size), ...(closed === null ? {} : { closed }) }));
}

/** Which databases to dump, and which of those that should be cannot be. */
export interface ChosenDatabases {
  databases: DatabaseListing[];
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
}

/**
 * Which databases to dump: those named, or all but templates and those kept aside by restores, which a restore of the server
 * would bring back after they were forgotten; of data that no snapshot has this is told. Names are matched whole, never as
 * patterns. One that is closed is told; one that was asked for by its name, and is closed, is an error.
 *
 * Errors: PG_DATABASE_UNKNOWN, PG_NAME_UNSUPPORTED.
 */
export function chooseDatabases(
  planned: PostgresSource,
  all: readonly DatabaseListing[],
  aside: readonly Aside[],
): ChosenDatabases {
  const { containerName, databases: named } = planned;
  const unknown = (named ?? []).filter((name) => !all.some((database) => database.name === name));
  if (unknown.length > 0) {
    throw new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has no database ${unknown.join(', ')}`, {
      hint: `It has: ${all.map(({ name }) => name).join(', ')}. Correct lifeboat.postgres.databases.`,
    });
  }
  const wanted = all.filter(
    ({ name }) =>
      (named?.includes(name) ?? !aside.some((one) => one.name === name)) && !planned.excludeDatabases.includes(name),
  );
  const closed = wanted.filter((database) => database.closed !== undefined);
  const [asked] = named === undefined ? [] : closed;
  if (asked) {
    throw new LifeboatError(
      'PG_DATABASE_UNKNOWN',
      `${containerName} has a database ${asked.name}, but ${asked.closed}`,
      {
        hint: 'Let it be connected to (ALTER DATABASE … ALLOW_CONNECTIONS true), or take it out of lifeboat.postgres.databases.',
      },
    );
  }
  const chosen = wanted.filter((database) => database.closed === undefined);
  // A name that is not UTF-8 arrives with replacement characters and would name another database, or none.
  const unsafe = chosen.find(({ name }) => name.includes('\ufffd'));
  if (unsafe) {
    throw new LifeboatError('PG_NAME_UNSUPPORTED', `${containerName} has a database whose name is not UTF-8`, {
      hint: 'Rename it, or leave it out by naming the others in lifeboat.postgres.databases.',
    });
  }
  if (chosen.length === 0) {
    throw new LifeboatError('PG_DATABASE_UNKNOWN', `${containerName} has no database left to back up`, {
      hint: 'Every database is excluded or closed: check lifeboat.postgres.exclude-databases.',
    });
  }
  const unstored = aside.filter(({ name, stored }) => !stored && all.some((one) => one.name === name));
  return {
    databases: chosen,
    warnings: [
      ...closed.map(
        ({ name, closed: why }) =>
          `database ${name} is not backed up: ${why}; exclude it (lifeboat.postgres.exclude-databases) if that is right`,
      ),
      ...(named === undefined ? unstored : []).map(
        ({ name }) =>
          `database ${name}, which a restore keeps aside, is not backed up, and no snapshot has what it holds; \`lifeboat rollback --forget\` drops it`,
      ),
    ],
  };
}
