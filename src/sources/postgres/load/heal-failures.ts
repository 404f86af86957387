import path from 'node:path';
import type { ArchiveEntry } from '../archive/archive.ts';
import { type Failure, isSharedMemory } from '../archive/restore-failures.ts';
import { writeList } from '../archive/restore-passes.ts';
import { type RunRestoreOptions, runRestore } from '../archive/run-restore.ts';
import { tableKey } from '../facts/compare-rows.ts';
import type { DatabaseFacts } from '../facts/facts.ts';
import { checkForeignKeys } from './heal-foreign-keys.ts';
import { fillThroughRoot, type StoodIn, standIn } from './heal-partitions.ts';
import { isUnqualified, readLeads } from './lead-functions.ts';
import { disableTriggersOf, quietSettings } from './quiet-triggers.ts';

/** The result of {@link healFailures}. */
interface Healed {
  /** entries that still fail */
  failures: Failure[];
  /** partitions whose rows were inserted through the topmost table, by {@link tableKey} */
  moved: Set<string>;
}

/** True for a failure that {@link healFailures} may repair. */
export function isHealable({ words }: Failure): boolean {
  return isSharedMemory(words) || isUnqualified(words) || isOtherPartition(words);
}

/** True if the rows belong to another partition on this server: a hash depends on OIDs, or a bound on the collation. */
function isOtherPartition(words: string): boolean {
  return /^new row for relation ".*" violates partition constraint/.test(words);
}

/**
 * Restores entries that failed again, in another way: without parallel workers, which share memory in /dev/shm; with
 * the search_path of the database for functions that name objects without a schema; and with rows inserted through the
 * topmost partitioned table. Triggers and rules are disabled for these rows, so foreign keys are checked afterwards.
 *
 * @throws the errors of {@link runRestore} and of a session
 */
export async function healFailures(
  options: RunRestoreOptions,
  recorded: DatabaseFacts,
  entries: readonly ArchiveEntry[],
  failures: readonly Failure[],
): Promise<Healed> {
  const moved = new Set<string>();
  if (!failures.some(isHealable)) return { failures: [...failures], moved };
  const { tools, database, lists, signal } = options;
  const failed = new Map(failures.map(({ dumpId, words }) => [dumpId, words]));
  const session = await tools.session(database, signal);
  try {
    const settings = ['-c max_parallel_maintenance_workers=0', '-c max_parallel_workers_per_gather=0'];
    const quiet = await quietSettings(session);
    const lead = [...failed.values()].some(isUnqualified) ? await readLeads(session, recorded) : [];
    for (const { set } of lead) await session.run(set);
    const leaves = entries.filter(
      ({ kind, dumpId }) => kind === 'TABLE DATA' && isOtherPartition(failed.get(dumpId) ?? ''),
    );
    const others = entries.filter(
      (entry) => entry.kind === 'TABLE DATA' && failed.has(entry.dumpId) && !leaves.includes(entry),
    );
    const { silent, restore } = await disableTriggersOf(session, others);
    const loud = new Set(others.filter((entry) => !silent.includes(entry)).map(({ dumpId }) => dumpId));
    const again = [...failed.keys()].filter((id) => !loud.has(id));
    const list = await writeList(path.posix.join(lists, 'again.list'), again);
    const aside = new Map<number, StoodIn>();
    for (const { dumpId, schema, tag } of leaves)
      aside.set(dumpId, await standIn(session, { schema, name: tag }, dumpId));
    const left = await runRestore(options, { list, settings: [...settings, ...quiet], jobs: 1 });
    left.push(...failures.filter(({ dumpId }) => loud.has(dumpId)));
    await restore();
    for (const [dumpId, stood] of aside) {
      const words = await fillThroughRoot(session, stood);
      if (words === undefined) moved.add(tableKey(stood.table));
      else if (!left.some((failure) => failure.dumpId === dumpId)) left.push({ dumpId, words });
    }
    const still = new Set(left.map(({ dumpId }) => dumpId));
    const filled = entries.filter(
      ({ kind, dumpId }) => kind === 'TABLE DATA' && failed.has(dumpId) && !still.has(dumpId),
    );
    if (quiet.length > 0) left.push(...(await checkForeignKeys(session, entries, filled)));
    await Promise.all(lead.map(({ reset }) => session.run(reset)));
    return { failures: left, moved };
  } finally {
    await session.close();
  }
}
