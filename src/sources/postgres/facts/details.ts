import { member, own, ownTable } from '../definitions/own.ts';
import type { Session } from '../server/session.ts';
import { readUnfilledViews } from './unfilled-views.ts';

/** The number of objects of a kind that a role owns, or has a privilege on. */
interface RoleCount {
  /** `table`, `view`, `sequence`, `function`, `schema`, `large object`, `column` */
  kind: string;
  /** null: PUBLIC */
  role: string | null;
  /** absent for the owner; `SELECT`, or `SELECT with grant option` */
  privilege?: string;
  objects: number;
}

/**
 * The facts that a drill compares besides rows and numbers of objects. They grow with the roles of a database, not with
 * its objects. Objects of extensions and of the system do not count.
 */
export interface DatabaseDetails {
  owned: RoleCount[];
  granted: RoleCount[];
  /** constraints that were added as NOT VALID */
  unvalidated: number;
  /** indexes of partitioned tables that are not valid, because partitions lack them. Others are not dumped. */
  invalidIndexes: number;
  /** materialized views without content; absent in snapshots of older agents */
  unfilledViews?: number;
}

const KINDS = `CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END`;

/** All objects with owner and rights. Default rights are written out, because a dump may store either form. */
const OBJECTS = `
  SELECT ${KINDS} AS kind, relowner AS owner,
         coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, relowner)) AS acl
    FROM pg_class c WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't' AND ${ownTable('c.oid')}
  UNION ALL SELECT 'function', proowner, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc p WHERE ${own('pronamespace')} AND NOT EXISTS (SELECT FROM pg_depend m
     WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))
  UNION ALL SELECT 'schema', nspowner, coalesce(nspacl, acldefault('n', nspowner))
    FROM pg_namespace n WHERE ${own('n.oid')} AND NOT ${member('pg_namespace', 'n.oid')}
  UNION ALL SELECT 'large object', lomowner, coalesce(lomacl, acldefault('L', lomowner)) FROM pg_largeobject_metadata
  UNION ALL SELECT 'column', NULL, attacl FROM pg_attribute
   WHERE attacl IS NOT NULL AND NOT attisdropped AND ${ownTable('attrelid')}`;

/** Reads the details of the session's database, as its transaction sees them. */
export async function readDetails(session: Session): Promise<DatabaseDetails> {
  const owned = await session.all<RoleCount>(
    `SELECT kind, rolname AS role, count(*)::int AS objects FROM (${OBJECTS}) o JOIN pg_roles r ON r.oid = owner
      GROUP BY 1, 2 ORDER BY 1, 2`,
  );
  const granted = await session.all<RoleCount>(
    `SELECT kind, rolname AS role, privilege_type || CASE WHEN is_grantable THEN ' with grant option' ELSE '' END
            AS privilege, count(*)::int AS objects
       FROM (${OBJECTS}) o, aclexplode(acl) a LEFT JOIN pg_roles r ON r.oid = a.grantee
      WHERE a.grantee = 0 OR r.oid IS NOT NULL GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`,
  );
  const counts = await session.one<Pick<DatabaseDetails, 'unvalidated' | 'invalidIndexes'>>(
    `SELECT (SELECT count(*)::int FROM pg_constraint c WHERE contype IN ('f', 'c') AND conparentid = 0
                AND NOT convalidated AND (conrelid = 0 OR ${ownTable('conrelid')}) AND ${own('connamespace')}) AS unvalidated,
            (SELECT count(*)::int FROM pg_index i JOIN pg_class t ON t.oid = indrelid
              WHERE NOT indisvalid AND relkind = 'p' AND ${ownTable('indrelid')}) AS "invalidIndexes"`,
  );
  const unfilledViews = (await readUnfilledViews(session)).length;
  return { owned, granted, ...counts, unfilledViews };
}

/** A difference between the record and a restored database. */
interface Differing {
  what: string;
  expected: number;
  found: number;
}

/** Compares owners or rights with the recorded ones. */
export function compareRoles(recorded: readonly RoleCount[], restored: readonly RoleCount[]): Differing[] {
  const nameOf = ({ kind, role, privilege }: RoleCount) => {
    const who = role === null ? 'PUBLIC' : role;
    return privilege === undefined ? `${kind}s that ${who} owns` : `${kind}s on which ${who} has ${privilege}`;
  };
  const counts = new Map(restored.map((one) => [nameOf(one), one.objects]));
  const then = new Map(recorded.map((one) => [nameOf(one), one.objects]));
  return [...new Set([...then.keys(), ...counts.keys()])].flatMap((what) => {
    const [expected, found] = [then.get(what) ?? 0, counts.get(what) ?? 0];
    return expected === found ? [] : [{ what, expected, found }];
  });
}
