import path from 'node:path';
import type { DatabaseFacts } from '../facts/facts.ts';
import { quoteLiteral } from '../server/quote.ts';
import type { Session } from '../server/session.ts';
import type { ArchiveEntry } from './archive.ts';
import { tableKey } from './compare-rows.ts';
import { checkForeignKeys } from './heal-foreign-keys.ts';
import { fillThroughRoot, type StoodIn, standIn } from './heal-partitions.ts';
import { quietSettings } from './quiet-triggers.ts';
import { type Failure, isSharedMemory } from './restore-failures.ts';
import { writeList } from './restore-passes.ts';
import { type RunRestoreOptions, runRestore } from './run-restore.ts';

/** What {@link healFailures} came to. */
interface Healed {
  /** what fails all the same */
  failures: Failure[];
  /** partitions whose rows were put through the topmost table, as {@link tableKey} names them */
  moved: Set<string>;
}

/** True for a failure that {@link healFailures} may have a way around. */
export function isHealable({ words }: Failure): boolean {
  return isSharedMemory(words) || isUnqualified(words) || isOtherPartition(words);
}

/** Names without a schema, as the server's errors write them; an operator stands there without quotes, between its types. */
const UNQUALIFIED = [
  /^(?:relation|type|schema|sequence|text search \w+) "?[^".]+"? does not exist/,
  /^operator does not exist: (?!\S*(?:\w|")\.[^\w\s"])\S/,
  /^operator (?:class|family) "[^".]+" does not exist for access method/,
  /^collation "[^".]+" (?:for encoding "[^"]*" )?does not exist/,
  /^function [^".(]+\(.*\) does not exist/,
];

/** A function body names something without its schema: `pg_restore` and, from version 17 on, maintenance have no search_path. */
function isUnqualified(words: string): boolean {
  return UNQUALIFIED.some((pattern) => pattern.test(words));
}

/** The rows belong into another partition here: a hash depends on OIDs, or a bound on the collation. */
function isOtherPartition(words: string): boolean {
  return /^new row for relation ".*" violates partition constraint/.test(words);
}

/**
 * Tries what failed once more, in another way: without parallel workers, which share memory in /dev/shm; with functions that
 * find what they name without a schema, by the database's own search_path; and with rows put through the topmost partitioned
 * table. Triggers do not fire meanwhile, so that foreign keys are checked after it. What depends on something that failed is tried too.
 *
 * Errors: those of {@link runRestore} and of a session.
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
  const list = await writeList(path.posix.join(lists, 'again.list'), [...failed.keys()]);
  const session = await tools.session(database, signal);
  try {
    const settings = ['-c max_parallel_maintenance_workers=0', '-c max_parallel_workers_per_gather=0'];
    const quiet = await quietSettings(session);
    const lead = [...failed.values()].some(isUnqualified) ? await leadFunctions(session, recorded) : [];
    const leaves = entries.filter(
      ({ kind, dumpId }) => kind === 'TABLE DATA' && isOtherPartition(failed.get(dumpId) ?? ''),
    );
    const aside = new Map<number, StoodIn>();
    for (const { dumpId, schema, tag } of leaves)
      aside.set(dumpId, await standIn(session, { schema, name: tag }, dumpId));
    const left = await runRestore(options, { list, settings: [...settings, ...quiet], jobs: 1 });
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
    await Promise.all(lead.map((routine) => session.run(`ALTER ROUTINE ${routine} RESET search_path`)));
    return { failures: left, moved };
  } finally {
    await session.close();
  }
}

/**
 * Gives functions that have no search_path of their own that of the database, and their own schema after it. Resolves to their
 * names with arguments, as SQL.
 */
async function leadFunctions(session: Session, { settings }: DatabaseFacts): Promise<string[]> {
  const own = settings.find(({ role }) => role === null)?.config.find((entry) => entry.startsWith('search_path='));
  const present = own === undefined ? '"$user", public' : own.slice('search_path='.length);
  const rows = await session.all<{ routine: string; schema: string }>(
    `SELECT format('%I.%I(%s)', nspname, proname, pg_get_function_identity_arguments(p.oid)) AS routine, nspname AS schema
       FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
      WHERE prokind IN ('f', 'p') AND lanname NOT IN ('internal', 'c') AND nspname NOT IN ('pg_catalog', 'information_schema')
        AND NOT EXISTS (SELECT FROM unnest(proconfig) c WHERE starts_with(c, 'search_path='))
        AND NOT EXISTS (SELECT FROM pg_depend m
          WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid AND m.deptype IN ('e', 'i'))`,
  );
  for (const { routine, schema } of rows) {
    const names = [...listed(present), schema].map(quoteLiteral).join(', ');
    await session.run(`ALTER ROUTINE ${routine} SET search_path = ${names}`);
  }
  return rows.map(({ routine }) => routine);
}

/** The names of a list as the catalogue has it: `"$user", public`. */
function listed(value: string): string[] {
  const items = value.matchAll(/"((?:[^"]|"")*)"|([^",\s][^",]*)/g);
  return [...items].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? (plain as string).trim());
}
