import { type ErrorCode, hasCode } from '../../../base/errors.ts';
import { type KeptBefore, type LoadedDatabase, type LoadOptions, loadDatabase } from './load-database.ts';
import type { PlannedLoad } from './load-plan.ts';

/** What came of the databases of a restore. */
interface Loaded {
  databases: LoadedDatabase[];
  /** those that are as they were */
  failed: { target: string; error: unknown }[];
}

/** After these errors no other database can be restored either. */
const ENDS_ALL: readonly ErrorCode[] = [
  'PG_UNREACHABLE',
  'PG_AUTH',
  'ENGINE_UNREACHABLE',
  'INTERRUPTED',
  'PG_STALLED',
  'PG_NO_SPACE',
];

/**
 * Restores databases of a dump tree, each for itself (see {@link loadDatabase}): one that cannot be restored takes no other with
 * it, and one that is restored stays so, whatever happens to those after it. Never rejects.
 */
export async function loadDatabases(options: LoadOptions, loads: readonly PlannedLoad[]): Promise<Loaded> {
  const loaded: Loaded = { databases: [], failed: [] };
  const kept: KeptBefore[] = [];
  let ended: unknown;
  for (const load of loads) {
    if (ended !== undefined) {
      loaded.failed.push({ target: load.target, error: ended });
      continue;
    }
    try {
      loaded.databases.push(await loadDatabase(options, load, kept));
    } catch (error) {
      noteFailed(options, load.target);
      loaded.failed.push({ target: load.target, error: options.signal.aborted ? options.signal.reason : error });
      if (options.signal.aborted) ended = options.signal.reason;
      else if (hasCode(error, ...ENDS_ALL)) ended = error;
    }
  }
  return loaded;
}

/** A note that cannot be written keeps no other database from being restored. */
function noteFailed({ recordFailed, tools }: LoadOptions, target: string): void {
  try {
    recordFailed(target);
  } catch (error) {
    tools.log.warn('it could not be noted that a database failed', { database: target, error: String(error) });
  }
}

/** How long the database that was away longest had no data, milliseconds: they are replaced one after the other. */
export function longestSwap(databases: readonly LoadedDatabase[]): { withoutDataMs?: number } {
  const away = databases.flatMap(({ swapMs }) => (swapMs === undefined ? [] : [swapMs]));
  return away.length === 0 ? {} : { withoutDataMs: Math.max(...away) };
}
