import { LifeboatError } from '../../../base/errors.ts';
import { LEFT_OUT } from '../definitions/own.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';

/** The steps that extensions require before and after `pg_restore` of one database. */
export interface ExtensionCare {
  /** the number of workers of `pg_restore` */
  jobs: number;
  /** extensions that cannot be created under a working name, and the schemas that hold only their objects */
  leftOut: readonly { extension: string; schema: string }[];
  /** about these extensions */
  warnings: string[];
  /** Prepares the working database. Called before `pg_restore`. */
  before(session: Session): Promise<void>;
  /** Completes the working database. Called after `pg_restore`. */
  after(session: Session): Promise<void>;
}

/**
 * Returns what the extensions of a recorded database require. pg_cron can only be created in the database that
 * cron.database_name names, so never under a working name. TimescaleDB must exist before `pg_restore` in the dumped
 * version, requires calls before and after it, and its catalogue cannot be restored by several workers.
 */
export function careFor({ name, extensions }: Pick<DatabaseFacts, 'name' | 'extensions'>, jobs: number): ExtensionCare {
  const timescale = extensions.find((extension) => extension.name === 'timescaledb');
  const cron = extensions.some((extension) => extension.name === 'pg_cron');
  const nothing = async () => undefined;
  return {
    jobs: timescale ? 1 : jobs,
    leftOut: LEFT_OUT.filter(({ extension }) => extensions.some((one) => one.name === extension)),
    warnings: cron
      ? [
          `database ${name}: pg_cron and its jobs are left out, because it can only be created under the database's final name: run CREATE EXTENSION pg_cron there, and schedule the jobs again (they are in cron.job of the data that was replaced, and in the dump that --to-directory writes)`,
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
      throw new LifeboatError('PG_RESTORE_FAILED', `TimescaleDB ${version} cannot be created`, {
        cause: error,
        hint: 'Use an image that has that version of TimescaleDB, and update the extension after the restore. Nothing was changed.',
      });
    });
  await session.run(`SELECT ${quoted}.timescaledb_pre_restore()`);
}

/**
 * Removes extensions from a list of `pg_restore --list`: their own entries, and all entries in their schema. Other
 * objects that need the extension stay in the list, and fail.
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
