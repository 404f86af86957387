import path from 'node:path';
import type { SkippedObject } from '../../../report/events.ts';
import { quoteIdentifier, quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import { serverWords } from '../server/sql-state.ts';
import type { ArchiveEntry } from './archive.ts';
import { checkForeignKeys } from './heal-foreign-keys.ts';
import { disableTriggers, quietSettings } from './quiet-triggers.ts';
import type { Failure } from './restore-failures.ts';
import { writeList } from './restore-passes.ts';
import { type RunRestoreOptions, runRestore } from './run-restore.ts';

/** A CHECK constraint of a table, as the catalogue writes it. */
interface Check {
  name: string;
  definition: string;
  comment: string | null;
}

/**
 * Brings rows that failed once more while their tables have no CHECK constraints, which come back as NOT VALID after it: for
 * new rows they hold (Postgres docs, ALTER TABLE). What else failed is tried once more then, since it may need those rows.
 *
 * Resolves to what fails all the same, the constraints that are not validated, and how many could not be added at all.
 */
export async function fillWithoutChecks(
  options: RunRestoreOptions,
  entries: readonly ArchiveEntry[],
  failures: readonly Failure[],
): Promise<{ failures: Failure[]; unchecked: SkippedObject[]; gone: number }> {
  const failed = new Map(failures.map(({ dumpId, words }) => [dumpId, words]));
  const rows = entries.filter(({ kind, dumpId }) => kind === 'TABLE DATA' && failed.has(dumpId));
  const unchecked: SkippedObject[] = [];
  let gone = 0;
  if (rows.length === 0) return { failures: [...failures], unchecked, gone };
  const session = await options.tools.session(options.database, options.signal);
  try {
    const aside = new Map<ArchiveEntry, Check[]>();
    for (const entry of rows) {
      const checks = await dropChecks(session, entry);
      if (checks.length > 0) aside.set(entry, checks);
    }
    if (aside.size === 0) return { failures: [...failures], unchecked, gone };
    const ids = [...aside.keys()].map(({ dumpId }) => dumpId);
    const list = await writeList(path.posix.join(options.lists, 'unchecked.list'), ids);
    const enable: (() => Promise<void>)[] = [];
    for (const entry of aside.keys()) enable.push(await disableTriggers(session, quotedTable(entry)));
    const quiet = await quietSettings(session);
    const again = await runRestore(options, { list, jobs: 1, settings: quiet });
    for (const back of enable) await back();
    const still = new Set(again.map(({ dumpId }) => dumpId));
    for (const [entry, checks] of aside) {
      for (const check of checks) {
        const lost = await addBack(session, entry, check, !still.has(entry.dumpId));
        if (lost !== undefined) gone++;
        if (lost === undefined && still.has(entry.dumpId)) continue;
        const table = quotedTable(entry);
        const name = quoteIdentifier(check.name);
        unchecked.push({
          database: options.about,
          kind: 'check constraint',
          name: `${entry.schema}.${entry.tag} ${check.name}`,
          statement:
            lost === undefined
              ? `ALTER TABLE ${table} VALIDATE CONSTRAINT ${name}`
              : `ALTER TABLE ${table} ADD CONSTRAINT ${name} ${check.definition}`,
          message:
            lost ?? `the rows are restored without it, and it holds for new ones only: ${failed.get(entry.dumpId)}`,
        });
      }
    }
    const healed = new Set(ids.filter((id) => !still.has(id)));
    const left = failures.filter(({ dumpId }) => !healed.has(dumpId));
    const filled = rows.filter(({ dumpId }) => healed.has(dumpId));
    const broken = quiet.length > 0 ? await checkForeignKeys(session, entries, filled) : [];
    const rest = healed.size === 0 ? left : await tryAgain(options, left);
    return { failures: [...rest, ...broken], unchecked, gone };
  } finally {
    await session.close();
  }
}

function quotedTable({ schema, tag }: ArchiveEntry): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(tag)}`;
}

/** Those of its own: what a table inherits cannot be dropped there. */
async function dropChecks(session: Session, entry: ArchiveEntry): Promise<Check[]> {
  const table = quotedTable(entry);
  const checks = await session.all<Check>(
    `SELECT conname AS name, pg_get_constraintdef(oid) AS definition, obj_description(oid, 'pg_constraint') AS comment FROM pg_constraint
      WHERE conrelid = to_regclass($1) AND contype = 'c' AND coninhcount = 0`,
    [table],
  );
  for (const { name } of checks) await session.run(`ALTER TABLE ${table} DROP CONSTRAINT ${quoteIdentifier(name)}`);
  return checks;
}

/** A foreign key, for example, fails as long as the rows that it refers to are missing. */
async function tryAgain(options: RunRestoreOptions, failures: readonly Failure[]): Promise<Failure[]> {
  // Rows that the checks are not in the way of fail as before.
  if (failures.length === 0) return [];
  const list = await writeList(
    path.posix.join(options.lists, 'after-checks.list'),
    failures.map(({ dumpId }) => dumpId),
  );
  return runRestore(options, { list, jobs: 1 });
}

/** Resolves to why it could not be added. A table without rows has none that break it. */
async function addBack(
  session: Session,
  entry: ArchiveEntry,
  { name, definition, comment }: Check,
  filled: boolean,
): Promise<string | undefined> {
  const added = filled && !definition.endsWith(' NOT VALID') ? `${definition} NOT VALID` : definition;
  const table = quotedTable(entry);
  try {
    await session.run(`ALTER TABLE ${table} ADD CONSTRAINT ${quoteIdentifier(name)} ${added}`);
    if (comment !== null)
      await session.run(`COMMENT ON CONSTRAINT ${quoteIdentifier(name)} ON ${table} IS ${quoteLiteral(comment)}`);
    return undefined;
  } catch (error) {
    const words = serverWords(error);
    if (words === undefined) throw error;
    return words;
  }
}
