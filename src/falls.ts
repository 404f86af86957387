import { errorInfo } from './errors.ts';
import type { Log } from './log.ts';
import { fallWarnings, type LastGood } from './run-rules.ts';
import type { DatabaseFacts } from './sources/postgres/facts.ts';
import { rowsOf as rowsIn } from './sources/postgres/summary.ts';
import type { CapturedTree } from './sources/source.ts';
import type { Repository } from './store/repository.ts';

type Facts = CapturedTree['facts'];

export interface FallDeps {
  readFacts: Repository['readFacts'];
  log: Log;
  /** a fall of size or rows by more than that share is told: 0 to 1 */
  share: number;
}

/**
 * What a source has lost since its last good snapshot, in words. Never rejects: where the facts of that snapshot cannot be read,
 * databases are not compared by name.
 */
export async function fallsOf(
  { readFacts, log, share }: FallDeps,
  { facts, databases = [] }: Pick<CapturedTree, 'facts' | 'databases'>,
  { files, bytes }: { files: number; bytes: number },
  lastGood: LastGood | undefined,
): Promise<string[]> {
  if (!lastGood) return [];
  const recorded = facts.kind === 'postgres' ? lastGood.entry.facts : undefined;
  const before = recorded
    ? await readFacts(recorded).catch((error: unknown) => {
        log.warn('the last facts cannot be read, so databases are not compared by name', {
          ...errorInfo(error),
          key: recorded.key,
        });
      })
    : undefined;
  // What could not be stored is told of as a failure, and makes the rest no smaller than the rest was.
  const missing = databases.flatMap(({ name, error }) => (error ? [name] : []));
  const { lost, likeSizes } = compareServers(before, facts, missing);
  if (missing.length === 0)
    return [...lost, ...fallWarnings(lastGood.entry, { files, bytes, ...rowsOf(facts), likeSizes }, share)];
  if (!isServer(before)) return lost;
  const rest = rowsIn(before.databases.filter(({ name }) => !missing.includes(name)));
  return [
    ...lost,
    ...fallWarnings({ ...lastGood.entry, rows: rest }, { files, bytes, ...rowsOf(facts), likeSizes: false }, share),
  ];
}

/** The rows that a source's facts speak of, if it has any. */
export function rowsOf({ rows }: Facts): { rows?: number } {
  return typeof rows === 'number' ? { rows } : {};
}

/** The part of a Postgres source's facts that two snapshots of it are compared by. */
interface ServerRecord {
  kind: 'postgres';
  compression: string;
  databases: Pick<DatabaseFacts, 'name' | 'tables'>[];
}

interface ComparedServers {
  /** databases of the former snapshot that the present one does not have, in words */
  lost: string[];
  /** the sizes of both say something about each other: they are written in the same way */
  likeSizes: boolean;
}

/**
 * Compares the facts of a source with those of its last good snapshot, which may be of any kind or not be known. Whoever left
 * a database out on purpose is told once, as is whoever dropped one.
 */
function compareServers(before: unknown, now: unknown, missing: readonly string[]): ComparedServers {
  if (!isServer(before) || !isServer(now)) return { lost: [], likeSizes: true };
  const names = new Set([...now.databases.map(({ name }) => name), ...missing]);
  return {
    lost: before.databases
      .filter(({ name }) => !names.has(name))
      .map(({ name }) => `database ${name} is not in this backup, and was in the last good one`),
    likeSizes: before.compression === now.compression,
  };
}

function isServer(facts: unknown): facts is ServerRecord {
  if (typeof facts !== 'object' || facts === null) return false;
  return 'kind' in facts && facts.kind === 'postgres' && 'databases' in facts && Array.isArray(facts.databases);
}
