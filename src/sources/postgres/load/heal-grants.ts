import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import type { Failure } from '../archive/restore-failures.ts';
import { isRefusal } from '../facts/count-rows.ts';
import { splitStatements } from '../facts/globals-statements.ts';
import type { Session } from '../server/session.ts';

/**
 * Kinds of privileges. `pg_restore` sends those of one object as one query, so a single missing role makes all of them
 * fail.
 */
const GRANTS = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL'];

/** The failures of a dump, and the roles that the server lacks. */
interface LostGrants {
  entries: readonly ArchiveEntry[];
  failures: readonly Failure[];
  missing: readonly string[];
}

/** Returns the dump ids of the entries that {@link grantOneByOne} can repair. */
export function grantIds(entries: readonly ArchiveEntry[]): Set<number> {
  return new Set(entries.filter(({ kind }) => GRANTS.includes(kind)).map(({ dumpId }) => dumpId));
}

/** The result of {@link grantOneByOne}. */
interface Granted {
  /** the other failures */
  failures: Failure[];
  warnings: string[];
}

/**
 * Runs failed grants again, statement by statement, so a missing role only loses its own rights. Rejects only if the
 * session is lost.
 */
export async function grantOneByOne(
  session: () => Promise<Session>,
  database: string,
  { entries, failures, missing }: LostGrants,
): Promise<Granted> {
  const failed = new Set(failures.map(({ dumpId }) => dumpId));
  const grants = entries.filter(({ kind, dumpId }) => GRANTS.includes(kind) && failed.has(dumpId));
  if (grants.length === 0 || missing.length === 0) return { failures: [...failures], warnings: [] };
  const open = await session();
  try {
    for (const { definition } of grants) await grant(open, splitStatements(definition));
  } finally {
    await open.close();
  }
  const healed = new Set(grants.map(({ dumpId }) => dumpId));
  const named = missing.join(', ');
  return {
    failures: failures.filter(({ dumpId }) => !healed.has(dumpId)),
    warnings: [
      `database ${database}: the server lacks roles that had rights in it (${named}), so their rights on ${plural(grants.length, 'object')} are left out: create the roles and grant them these rights`,
    ],
  };
}

async function grant(session: Session, statements: readonly string[]): Promise<void> {
  try {
    let isLost = false;
    for (const statement of statements) {
      // Another role must not grant the rights of a missing grantor.
      if (isLost && !statement.startsWith('RESET ')) continue;
      isLost = false;
      await session.run(statement).catch((error: unknown) => {
        if (!isRefusal(error)) throw error;
        isLost = statement.startsWith('SET SESSION AUTHORIZATION ');
      });
    }
  } finally {
    await session.run('RESET SESSION AUTHORIZATION').catch(() => undefined);
  }
}
