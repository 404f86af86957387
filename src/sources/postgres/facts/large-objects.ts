import { inSavepoint } from '../server/savepoint.ts';
import type { Session } from '../server/session.ts';
import type { DatabaseFacts } from './facts.ts';

/** The most time that measuring may take, milliseconds. A million large objects need about 20 s. */
const LIMIT_MS = 60_000;

/**
 * Opens each large object to read (INV_READ, libpq/libpq-fs.h), seeks its end and closes it. Postgres drops no column
 * of a subquery that has a volatile function, so each of them is closed.
 */
const SIZES = `SELECT coalesce(sum(size), 0)::text AS bytes FROM (
  SELECT lo_lseek64(fd, 0, 2) AS size, lo_close(fd)
    FROM (SELECT lo_open(oid, 262144) AS fd FROM pg_largeobject_metadata OFFSET 0) opened OFFSET 0) sizes`;

/**
 * Returns the size of all large objects of the session's database, bytes, as its transaction sees them. Undefined if
 * the server refuses to tell, or takes too long.
 */
export async function measureLargeObjects(
  session: Session,
  { largeObjects }: Pick<DatabaseFacts, 'largeObjects'>,
): Promise<number | undefined> {
  if (largeObjects === 0) return 0;
  const found = await inSavepoint(session, async () => {
    await session.run(`SET LOCAL statement_timeout = ${LIMIT_MS}`);
    return session.one<{ bytes: string }>(SIZES);
  });
  return found instanceof Error ? undefined : Number(found.bytes);
}
