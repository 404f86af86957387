import { ownTable } from '../definitions/own.ts';
import type { Session } from '../server/session.ts';

/** A materialized view without content, which cannot be read before it is refreshed. */
interface UnfilledView {
  /** with its schema */
  name: string;
  /** the same without quotes */
  plain: string;
  /** it reads a foreign table, at any depth, so a server without a network cannot refresh it */
  foreign: boolean;
}

const UNFILLED = `WITH RECURSIVE seen(root, rel) AS (
    SELECT oid, oid FROM pg_class c WHERE relkind = 'm' AND NOT relispopulated AND ${ownTable('c.oid')}
    UNION SELECT root, d.refobjid FROM seen JOIN pg_rewrite r ON ev_class = rel
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass
     WHERE d.refobjid <> rel
  )
  SELECT root::regclass::text AS name,
         (SELECT concat(nspname, '.', relname) FROM pg_class v JOIN pg_namespace n ON n.oid = relnamespace WHERE v.oid = root)
           AS plain,
         bool_or(relkind = 'f') AS foreign FROM seen JOIN pg_class c ON c.oid = rel
   GROUP BY root ORDER BY 1`;

/** Lists the materialized views of the session's database that have no content. */
export function readUnfilledViews(session: Session): Promise<UnfilledView[]> {
  return session.all<UnfilledView>(UNFILLED);
}
