import type { Session } from '../server/session.ts';
import { isRefusal } from './count-rows.ts';
import type { DatabaseFacts } from './facts.ts';

/**
 * Returns a warning if the role of the session lacks rights to restore the databases that it backs up, else an empty
 * list. See CREATE DATABASE (CREATEDB, and membership in the owner), CREATE EXTENSION (trusted) and CREATE EVENT
 * TRIGGER in the Postgres docs.
 */
export async function restoreWarnings(session: Session, databases: readonly Recorded[]): Promise<string[]> {
  try {
    return lacksWarning(await readRights(session, databases));
  } catch (error) {
    // A control file that cannot be parsed makes the list of extensions fail. The backup does not depend on it.
    if (!isRefusal(error)) throw error;
    return [];
  }
}

type Recorded = Pick<DatabaseFacts, 'owner' | 'owners' | 'extensions'>;

/** The rights of a role that matter for a restore. */
interface Rights {
  role: string;
  superuser: boolean;
  /** may create databases */
  creates: boolean;
  /** owners of objects whose roles it is not a member of */
  foreign: string[] | null;
  /** extensions that only a superuser may create */
  untrusted: string[] | null;
}

async function readRights(session: Session, databases: readonly Recorded[]): Promise<Rights> {
  const owners = [...new Set(databases.flatMap(({ owner, owners }) => [owner, ...owners]))].sort();
  const extensions = [...new Set(databases.flatMap((one) => one.extensions.map(({ name }) => name)))].sort();
  return session.one<Rights>(
    `SELECT current_user AS role, rolsuper AS superuser, rolcreatedb AS creates,
            (SELECT array_agg(o.rolname::text ORDER BY 1) FROM pg_roles o WHERE o.rolname = ANY ($1)
                AND NOT pg_has_role(current_user, o.oid, '${session.versionNumber >= 160000 ? 'SET' : 'MEMBER'}')) AS foreign,
            (SELECT array_agg(DISTINCT v.name::text ORDER BY v.name::text) FROM pg_available_extension_versions v
              WHERE v.name = ANY ($2) AND v.installed AND v.superuser AND NOT v.trusted) AS untrusted
       FROM pg_roles r WHERE r.rolname = current_user`,
    [owners, extensions],
  );
}

function lacksWarning(found: Rights): string[] {
  if (found.superuser) return [];
  const lacks = [
    ...(found.creates ? [] : ['it may not create databases (CREATEDB)']),
    ...(found.foreign ? [`it is not a member of ${found.foreign.join(', ')}, which own objects in them`] : []),
    ...(found.untrusted ? [`only a superuser may create the extensions ${found.untrusted.join(', ')}`] : []),
  ];
  if (lacks.length === 0) return [];
  return [
    `role ${found.role} can back up these databases but cannot restore them: ${lacks.join('; ')}. Grant it these rights, or restore as a superuser (LIFEBOAT_PGUSER)`,
  ];
}
