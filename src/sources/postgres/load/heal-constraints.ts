import path from 'node:path';
import type { SkippedObject } from '../../../report/events.ts';
import type { ArchiveEntry } from '../archive/archive.ts';
import type { Failure } from '../archive/restore-failures.ts';
import { writeList } from '../archive/restore-passes.ts';
import { type RunRestoreOptions, runRestore } from '../archive/run-restore.ts';
import type { Session } from '../server/session.ts';
import { fillRowByRow } from './heal-rows.ts';
import { disableTriggersOf, quietSettings } from './quiet-triggers.ts';
import { type Constraint, dropDomainConstraints, dropTableConstraints, putBack } from './set-constraints-aside.ts';
import { dropKeys, quotedTable } from './set-indexes-aside.ts';

/** The result of {@link fillWithoutConstraints}. */
interface Unconstrained {
  /** what fails all the same */
  failures: Failure[];
  /** constraints that do not hold for the restored rows, or could not be added again */
  lost: SkippedObject[];
  /** how many of those are missing that the record counts as constraints */
  gone: number;
}

/**
 * Loads rows that failed once more while their tables have no constraints. First the constraints of the tables are
 * dropped; where rows fail even so, those of the domains that their columns have. Rows that fail even then are loaded
 * one by one. Afterwards each constraint is added again: for all rows, else for new rows only (Postgres docs, ALTER
 * TABLE, NOT VALID). Keys and indexes are made again from the dump, with what else failed, since that may need the
 * rows.
 *
 * Errors: those of {@link runRestore} and of a session.
 */
export async function fillWithoutConstraints(
  options: RunRestoreOptions,
  entries: readonly ArchiveEntry[],
  failures: readonly Failure[],
): Promise<Unconstrained> {
  const failed = new Set(failures.map(({ dumpId }) => dumpId));
  const rows = entries.filter(({ kind, dumpId }) => kind === 'TABLE DATA' && failed.has(dumpId));
  if (rows.length === 0) return { failures: [...failures], lost: [], gone: 0 };
  const session = await options.tools.session(options.database, options.signal);
  try {
    const keys = await dropKeys(session, rows.map(quotedTable), entries);
    const { dropped, refused } = await load(options, session, rows, failures);
    const { lost, gone } = await putBack(session, options.about, dropped);
    const ofRows = new Set(rows.map(({ dumpId }) => dumpId));
    const again = new Set([...keys, ...[...failed].filter((id) => !ofRows.has(id))]);
    const made = await restoreAgain(
      options,
      entries.filter(({ dumpId }) => again.has(dumpId)),
    );
    return { failures: [...refused, ...made], lost, gone };
  } finally {
    await session.close();
  }
}

/** Resolves to the constraints that were dropped, and to the rows that fail without them. */
async function load(
  options: RunRestoreOptions,
  session: Session,
  rows: readonly ArchiveEntry[],
  failures: readonly Failure[],
): Promise<{ dropped: Constraint[]; refused: Failure[] }> {
  const quiet = await quietSettings(session);
  const dropped: Constraint[] = [];
  const isOf = (found: readonly Failure[]) => (entry: ArchiveEntry) =>
    found.some(({ dumpId }) => dumpId === entry.dumpId);
  const given = failures.filter(({ dumpId }) => rows.some((entry) => entry.dumpId === dumpId));
  const { silent, restore } = await disableTriggersOf(session, rows);
  const loud = given.filter(({ dumpId }) => !silent.some((entry) => entry.dumpId === dumpId));
  let refused = given.filter((failure) => !loud.includes(failure));
  for (const drop of [dropTableConstraints, dropDomainConstraints]) {
    const left = silent.filter(isOf(refused));
    if (left.length === 0) break;
    const more = await drop(session, left.map(quotedTable));
    dropped.push(...more);
    if (more.length > 0) refused = await loadAgain(options, left, quiet);
  }
  refused = await fillRowByRow(options, session, withFailures(silent, refused), quiet);
  await restore();
  return { dropped, refused: [...loud, ...refused] };
}

function withFailures(rows: readonly ArchiveEntry[], failures: readonly Failure[]) {
  return rows.flatMap((entry) => {
    const failure = failures.find(({ dumpId }) => dumpId === entry.dumpId);
    return failure === undefined ? [] : [{ entry, failure }];
  });
}

/** Loads rows whose tables have their triggers disabled. Resolves to those that fail. */
async function loadAgain(
  options: RunRestoreOptions,
  rows: readonly ArchiveEntry[],
  settings: readonly string[],
): Promise<Failure[]> {
  const list = await writeList(
    path.posix.join(options.lists, 'unconstrained.list'),
    rows.map(({ dumpId }) => dumpId),
  );
  return runRestore(options, { list, jobs: 1, settings });
}

async function restoreAgain(options: RunRestoreOptions, entries: readonly ArchiveEntry[]): Promise<Failure[]> {
  if (entries.length === 0) return [];
  const ids = entries.map(({ dumpId }) => dumpId);
  return runRestore(options, {
    list: await writeList(path.posix.join(options.lists, 'after-rows.list'), ids),
    jobs: 1,
  });
}
