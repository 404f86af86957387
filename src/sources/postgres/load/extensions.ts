import { LifeboatError } from '../../../base/errors.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** What extensions ask for around `pg_restore` of one database. */
export interface ExtensionCare {
  /** how many workers `pg_restore` may have */
  jobs: number;
  /** extensions that cannot be made under a working name, and the schemas that hold nothing but their things */
  leftOut: { extension: string; schema: string }[];
  /** what to tell of those */
  warnings: string[];
  /** To be called with a session on the working database before `pg_restore`. */
  before(session: Session): Promise<void>;
  /** The same after it. */
  after(session: Session): Promise<void>;
}

/**
 * pg_cron can only be made in the database that cron.database_name names, so never in one that is built under a working
 * name. TimescaleDB is to be told of a restore before and after it, and has to be there before in the version that was
 * dumped; with several workers its catalogue does not come back right.
 */
export function careFor({ name, extensions }: Pick<DatabaseFacts, 'name' | 'extensions'>, jobs: number): ExtensionCare {
  const timescale = extensions.find((extension) => extension.name === 'timescaledb');
  const cron = extensions.some((extension) => extension.name === 'pg_cron');
  const nothing = async () => undefined;
  return {
    jobs: timescale ? 1 : jobs,
    leftOut: cron ? [{ extension: 'pg_cron', schema: 'cron' }] : [],
    warnings: cron
      ? [
          `database ${name}: pg_cron and its jobs are left out, because it can only be made under the database's final name: run CREATE EXTENSION pg_cron there, and schedule the jobs again (they are in cron.job of the data that was replaced, and in the dump that --to-directory gives)`,
        ]
      : [],
    before: timescale ? (session) => beforeTimescale(session, timescale) : nothing,
    after: timescale
      ? (session) => session.run(`SELECT ${quoteIdentifier(timescale.schema)}.timescaledb_post_restore()`)
      : nothing,
  };
}

async function beforeTimescale(
  session: Session,
  { schema, version }: DatabaseFacts['extensions'][number],
): Promise<void> {
  const quoted = quoteIdentifier(schema);
  await session.run(`CREATE SCHEMA IF NOT EXISTS ${quoted}`);
  await session
    .run(`CREATE EXTENSION timescaledb WITH SCHEMA ${quoted} VERSION ${quoteLiteral(version)}`)
    .catch((error: unknown) => {
      throw new LifeboatError('PG_RESTORE_FAILED', `TimescaleDB ${version} cannot be set up`, {
        cause: error,
        hint: 'Use an image that has that version of TimescaleDB, and update the extension after the restore. Nothing was changed.',
      });
    });
  await session.run(`SELECT ${quoted}.timescaledb_pre_restore()`);
}

/**
 * A list as `pg_restore --list` prints it, without some extensions: their own entries, and whatever is in their schema.
 * What others have that needs them is left in, and fails.
 */
export function listWithout(list: string, leftOut: ExtensionCare['leftOut']): string {
  const lines = list.split('\n').filter((line) => {
    const entry = /^\d+; \d+ \d+ (.*)$/.exec(line)?.[1];
    if (entry === undefined) return true;
    return !leftOut.some(({ extension, schema }) =>
      [
        // `EXTENSION - pg_cron `, `COMMENT - EXTENSION pg_cron `, `ACL - SCHEMA cron postgres`
        new RegExp(`^(EXTENSION - |COMMENT - EXTENSION |SECURITY LABEL - EXTENSION )${extension}( |$)`),
        new RegExp(`^[A-Z ]+ - SCHEMA ${schema}( |$)`),
        new RegExp(`^[A-Z ]+ ${schema} `),
      ].some((pattern) => pattern.test(entry)),
    );
  });
  return lines.join('\n');
}
