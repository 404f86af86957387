import { type ErrorCode, hasCode } from '../../../base/errors.ts';
import { type KeptBefore, type LoadedDatabase, type LoadOptions, loadDatabase } from './load-database.ts';
import type { PlannedLoad } from './load-plan.ts';

/** The result of {@link loadDatabases}. */
interface Loaded {
  databases: LoadedDatabase[];
  /** databases that are unchanged */
  failed: { target: string; error: unknown }[];
}

/** After these errors, no other database can be restored either. */
const ENDS_ALL: readonly ErrorCode[] = [
  'PG_UNREACHABLE',
  'PG_AUTH',
  'ENGINE_UNREACHABLE',
  'INTERRUPTED',
  'PG_STALLED',
  'PG_NO_SPACE',
];

/**
 * Restores databases of a dump tree one by one (see {@link loadDatabase}). A database that fails does not affect the
 * others. Never rejects.
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
      options.recordFailed(load.target);
      loaded.failed.push({ target: load.target, error: options.signal.aborted ? options.signal.reason : error });
      if (options.signal.aborted) ended = options.signal.reason;
      else if (hasCode(error, ...ENDS_ALL)) ended = error;
    }
  }
  return loaded;
}

/**
 * Returns the longest time that a name had no usable database, milliseconds. Databases are swapped one after the other.
 */
export function longestSwap(databases: readonly LoadedDatabase[]): { withoutDataMs?: number } {
  const away = databases.flatMap(({ swapMs }) => (swapMs === undefined ? [] : [swapMs]));
  return away.length === 0 ? {} : { withoutDataMs: Math.max(...away) };
}
