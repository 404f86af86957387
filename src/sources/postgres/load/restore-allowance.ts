import type { ArchiveEntry } from '../archive/archive.ts';
import type { ObjectCounts } from '../facts/object-counts.ts';
import type { Allowance } from './compare-database.ts';
import { loadedThroughRoot, tableKey } from './compare-rows.ts';

type Kind = keyof ObjectCounts;

const EVERY: readonly Kind[] = ['constraints', 'indexes', 'views', 'sequences', 'functions', 'triggers', 'policies'];
/** What may be part of a table's own definition, or hang on it. */
const OF_TABLES: readonly Kind[] = ['constraints', 'indexes', 'sequences', 'triggers', 'policies'];

/** Entries with which an unknown number of objects is missing; of all others it is one of each kind. */
const UNCOUNTED = ['EXTENSION', 'SCHEMA', 'TABLE', 'FOREIGN TABLE', 'DOMAIN'];

/** Which counts an entry of a dump goes into, by its kind. */
const COUNTED: Readonly<Record<string, readonly Kind[]>> = {
  EXTENSION: EVERY,
  SCHEMA: EVERY,
  TABLE: OF_TABLES,
  'FOREIGN TABLE': OF_TABLES,
  DOMAIN: ['constraints'],
  CONSTRAINT: ['constraints', 'indexes'],
  'FK CONSTRAINT': ['constraints'],
  'CHECK CONSTRAINT': ['constraints'],
  INDEX: ['indexes'],
  VIEW: ['views'],
  'MATERIALIZED VIEW': ['views'],
  SEQUENCE: ['sequences'],
  FUNCTION: ['functions'],
  PROCEDURE: ['functions'],
  AGGREGATE: ['functions'],
  TRIGGER: ['triggers'],
  POLICY: ['policies'],
};

/** In what a restored database differs besides what the server refused. */
interface Differing {
  /** partitions whose rows were put through the root here, as {@link tableKey} names them */
  moved?: ReadonlySet<string>;
  /** dump ids of what was left out on purpose */
  leftOut?: ReadonlySet<number>;
  /** CHECK constraints that could not be added again */
  checks?: number;
}

/**
 * In what a restored database may differ from the record.
 *
 * @param entries the whole dump
 * @param missing dump ids of what the server refused
 */
export function allowanceFor(
  entries: readonly ArchiveEntry[],
  missing: ReadonlySet<number>,
  { moved = new Set(), leftOut = new Set(), checks = 0 }: Differing = {},
): Required<Allowance> {
  const lacking = entries.filter(({ dumpId }) => missing.has(dumpId) || leftOut.has(dumpId));
  const named = (...kinds: string[]) => lacking.filter(({ kind }) => kinds.includes(kind));
  return {
    moving: new Set([...loadedThroughRoot(entries), ...moved]),
    extensions: new Set(named('EXTENSION').map(({ tag }) => tag)),
    tables: new Set(named('TABLE', 'TABLE DATA').map(({ schema, tag }) => tableKey({ schema, name: tag }))),
    fewer: countLacking(lacking, leftOut, checks),
    largeObjects: named('BLOB', 'BLOBS', 'BLOB METADATA').length > 0,
  };
}

/** Objects of an extension do not count, so one that is left out takes none away; what hangs on it has entries of its own. */
function countLacking(
  lacking: readonly ArchiveEntry[],
  leftOut: ReadonlySet<number>,
  checks: number,
): Map<Kind, number> {
  const fewer = new Map<Kind, number>(checks > 0 ? [['constraints', checks]] : []);
  for (const { kind, dumpId } of lacking) {
    if (leftOut.has(dumpId) && (kind === 'EXTENSION' || kind === 'SCHEMA')) continue;
    const objects = UNCOUNTED.includes(kind) ? Number.POSITIVE_INFINITY : 1;
    for (const counted of COUNTED[kind] ?? []) fewer.set(counted, (fewer.get(counted) ?? 0) + objects);
  }
  return fewer;
}
