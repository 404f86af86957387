import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Plan, PostgresSource } from '../plan/model.ts';
import type { JournalEntry } from '../run/journal.ts';
import { findNameDependents } from '../sources/postgres/facts/name-dependents.ts';
import { recomputeDependents } from '../sources/postgres/load/recompute-dependents.ts';
import { dropWorking, readDatabases, type WorkingDatabase } from '../sources/postgres/load/swap.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';

/** The most time for dropping the working databases on one server, milliseconds. */
const DROP_LIMIT_MS = 120_000;

/** The most time for computing content of restored databases again, milliseconds. */
const COMPUTE_LIMIT_MS = 30 * 60_000;

interface DropDeps {
  project: string;
  log: Log;
  plan(): Promise<Plan>;
  openTools(
    source: PostgresSource,
    context: { runId: string; application: string; recordHelper(name: string): void; signal: AbortSignal },
  ): Promise<Tools>;
}

/** The databases on one server that a dead restore did not finish. */
interface LeftDatabases {
  /** databases that it created and did not drop */
  working: WorkingDatabase[];
  /** databases with content that depends on their name and still has to be computed again, by their oid */
  dependents: { target: string; oid: string }[];
}

/** Returns the steps on databases that a journal shows as started but not finished, by source. */
export function openDatabases(entries: readonly JournalEntry[]): Map<string, LeftDatabases> {
  const open = new Map<string, { working: Map<string, WorkingDatabase>; dependents: Map<string, string> }>();
  for (const entry of entries) {
    if (!('source' in entry)) continue;
    const left = open.get(entry.source) ?? { working: new Map(), dependents: new Map() };
    open.set(entry.source, left);
    if (entry.type === 'database') left.working.set(entry.name, { name: entry.name, what: entry.what });
    else if (entry.type === 'database-done') left.working.delete(entry.name);
    else if (entry.type === 'dependents') left.dependents.set(entry.target, entry.oid);
    else left.dependents.delete(entry.target);
  }
  const listed = [...open].map(([source, { working, dependents }]): [string, LeftDatabases] => [
    source,
    { working: [...working.values()], dependents: [...dependents].map(([target, oid]) => ({ target, oid })) },
  ]);
  return new Map(listed.filter(([, { working, dependents }]) => working.length + dependents.length > 0));
}

/**
 * Drops the working databases that a dead restore's journal shows as open. In databases that it had swapped, computes
 * again what depends on their names. Failures are logged.
 *
 * @returns whether nothing remains to be retried
 */
export async function completeDatabases(
  deps: DropDeps,
  entries: readonly JournalEntry[],
  run: { id: string; record(entry: JournalEntry): void },
): Promise<boolean> {
  let done = true;
  for (const [source, left] of openDatabases(entries)) {
    try {
      const { sources } = await deps.plan();
      const planned = sources.find(({ name }) => name === source);
      if (planned?.kind !== 'postgres') {
        throw new LifeboatError('SOURCE_UNKNOWN', `no running container has the source ${source}`);
      }
      if (!(await completeIn(deps, planned, left, run))) done = false;
    } catch (error) {
      const names = [...left.working.map(({ name }) => name), ...left.dependents.map(({ target }) => target)];
      deps.log.warn('databases of a dead restore could not be completed or dropped', {
        source,
        names,
        ...errorInfo(error),
      });
      done = false;
    }
  }
  return done;
}

async function completeIn(
  deps: DropDeps,
  source: PostgresSource,
  { working, dependents }: LeftDatabases,
  { id, record }: { id: string; record(entry: JournalEntry): void },
): Promise<boolean> {
  const signal = AbortSignal.timeout(dependents.length > 0 ? COMPUTE_LIMIT_MS : DROP_LIMIT_MS);
  const recordHelper = (name: string) => record({ type: 'helper', name });
  const application = applicationName(deps.project, id);
  const tools = await deps.openTools(source, { runId: id, application, recordHelper, signal });
  try {
    let done = true;
    for (const database of working) {
      const outcome = await dropWorking(tools, database, signal);
      if (outcome === 'failed') done = false;
      else record({ type: 'database-done', source: source.name, name: database.name });
      const fields = { source: source.name, database: database.name };
      if (outcome === 'gone') deps.log.info('dropped a database that a dead restore was building', fields);
      if (outcome === 'kept') deps.log.warn('a database that a dead restore renamed is not empty, and stays', fields);
    }
    // The drops come first, because they end the sessions of the dead run, which may still be renaming a database.
    if (!done) return false;
    for (const { target, oid } of dependents) {
      const warnings = await recomputeLeft(tools, target, oid, signal);
      for (const warning of warnings) deps.log.warn(warning, { source: source.name, database: target });
      record({ type: 'dependents-done', source: source.name, target, warnings });
    }
    return true;
  } finally {
    await tools.close();
  }
}

/** Computes again what depends on the name of a database, if the restore had swapped it. Returns warnings. */
async function recomputeLeft(tools: Tools, target: string, oid: string, signal: AbortSignal): Promise<string[]> {
  const present = await readDatabases(await tools.control(target), [target]);
  if (present.get(target)?.oid !== oid) return [];
  const session = await tools.session(target, signal);
  const found = await findNameDependents(session).finally(() => session.close());
  const warnings = await recomputeDependents(target, found, { open: () => tools.session(target, signal), signal });
  // An outage: the next recovery tries again.
  signal.throwIfAborted();
  return warnings;
}
