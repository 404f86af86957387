import { plural } from '../../../report/format.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import type { Failure } from '../archive/restore-failures.ts';
import { isRefusal } from '../facts/count-rows.ts';
import { splitStatements } from '../facts/globals-statements.ts';
import type { Session } from '../server/session.ts';

/** Privileges: `pg_restore` sends those of one object as one query, so that one role that is missing takes all of them. */
const GRANTS = ['ACL', 'ACL LANGUAGE', 'DEFAULT ACL'];

/** Which grants failed, of all entries of a dump, and the roles that the server lacks. */
interface LostGrants {
  entries: readonly ArchiveEntry[];
  failures: readonly Failure[];
  missing: readonly string[];
}

/** Dump ids of what {@link grantOneByOne} can help with. */
export function grantIds(entries: readonly ArchiveEntry[]): Set<number> {
  return new Set(entries.filter(({ kind }) => GRANTS.includes(kind)).map(({ dumpId }) => dumpId));
}

/** What {@link grantOneByOne} came to. */
interface Granted {
  /** what failed otherwise */
  failures: Failure[];
  warnings: string[];
}

/**
 * Runs the grants of objects that failed once more, statement by statement: a role that the server lacks loses its own rights,
 * and takes those of no other role. Rejects only when the session is lost.
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
      `database ${database}: the server lacks roles that had rights in it (${named}), so their rights on ${plural(grants.length, 'object')} are left out: create the roles and grant them these`,
    ],
  };
}

async function grant(session: Session, statements: readonly string[]): Promise<void> {
  try {
    let isLost = false;
    for (const statement of statements) {
      // What a grantor that is missing gave must not come from somebody else.
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
