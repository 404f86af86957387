import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Plan, PostgresSource } from '../plan/model.ts';
import type { JournalEntry } from '../run/journal.ts';
import { dropWorking, type WorkingDatabase } from '../sources/postgres/load/swap.ts';
import { applicationName } from '../sources/postgres/postgres-source.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';

/** How long it may take to drop the working databases on one server, milliseconds. */
const LIMIT_MS = 120_000;

interface DropDeps {
  project: string;
  log: Log;
  plan(): Promise<Plan>;
  openTools(
    source: PostgresSource,
    context: { runId: string; application: string; recordHelper(name: string): void; signal: AbortSignal },
  ): Promise<Tools>;
}

/** Returns the working databases that a journal shows as created and not dropped, by source. */
export function openDatabases(entries: readonly JournalEntry[]): Map<string, WorkingDatabase[]> {
  const open = new Map<string, Map<string, WorkingDatabase>>();
  for (const entry of entries) {
    if (entry.type !== 'database' && entry.type !== 'database-done') continue;
    const ofSource = open.get(entry.source) ?? new Map<string, WorkingDatabase>();
    open.set(entry.source, ofSource);
    if (entry.type === 'database') ofSource.set(entry.name, { name: entry.name, what: entry.what });
    else ofSource.delete(entry.name);
  }
  return new Map([...open].flatMap(([source, named]) => (named.size > 0 ? [[source, [...named.values()]]] : [])));
}

/**
 * Drops the working databases that a dead restore's journal shows as open. Failures are logged.
 *
 * @returns whether nothing remains to be retried
 */
export async function dropLeftDatabases(
  deps: DropDeps,
  entries: readonly JournalEntry[],
  run: { id: string; record(entry: JournalEntry): void },
): Promise<boolean> {
  let done = true;
  for (const [source, databases] of openDatabases(entries)) {
    try {
      const { sources } = await deps.plan();
      const planned = sources.find(({ name }) => name === source);
      if (planned?.kind !== 'postgres') {
        throw new LifeboatError('SOURCE_UNKNOWN', `no running container has the source ${source}`);
      }
      if (!(await dropIn(deps, planned, databases, run))) done = false;
    } catch (error) {
      const names = databases.map(({ name }) => name);
      deps.log.warn('databases of a dead restore could not be dropped', { source, names, ...errorInfo(error) });
      done = false;
    }
  }
  return done;
}

async function dropIn(
  deps: DropDeps,
  source: PostgresSource,
  databases: readonly WorkingDatabase[],
  { id, record }: { id: string; record(entry: JournalEntry): void },
): Promise<boolean> {
  const signal = AbortSignal.timeout(LIMIT_MS);
  const recordHelper = (name: string) => record({ type: 'helper', name });
  const application = applicationName(deps.project, id);
  const tools = await deps.openTools(source, { runId: id, application, recordHelper, signal });
  try {
    let done = true;
    for (const database of databases) {
      const outcome = await dropWorking(tools, database, signal);
      if (outcome === 'failed') done = false;
      else record({ type: 'database-done', source: source.name, name: database.name });
      const fields = { source: source.name, database: database.name };
      if (outcome === 'gone') deps.log.info('dropped a database that a dead restore was building', fields);
      if (outcome === 'kept') deps.log.warn('a database that a dead restore renamed is not empty, and stays', fields);
    }
    return done;
  } finally {
    await tools.close();
  }
}
