import { type ArchiveEntry, rootOfLoad } from '../archive/archive.ts';
import { tableKey } from '../facts/compare-rows.ts';
import type { ObjectCounts } from '../facts/object-counts.ts';
import type { Allowance } from './compare-database.ts';

type Kind = keyof ObjectCounts;

const EVERY: readonly Kind[] = ['constraints', 'indexes', 'views', 'sequences', 'functions', 'triggers', 'policies'];
/** Objects that may be part of a table's definition, or depend on the table. */
const OF_TABLES: readonly Kind[] = ['constraints', 'indexes', 'sequences', 'triggers', 'policies'];

/** Without one of these entries, an unknown number of objects is missing; without any other entry, one of each kind. */
const UNCOUNTED = ['EXTENSION', 'SCHEMA', 'TABLE', 'FOREIGN TABLE', 'DOMAIN'];

/** The counts that include an entry of a dump, by its kind. */
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

/** Differences from the record, besides the objects that the server refused. */
interface Differing {
  /** partitions whose rows were inserted through the topmost table, by {@link tableKey} */
  moved?: ReadonlySet<string>;
  /** dump ids of entries that were left out on purpose */
  leftOut?: ReadonlySet<number>;
  /** number of constraints that could not be added again */
  checks?: number;
}

/**
 * Returns the differences from the record that a restored database may have.
 *
 * @param entries the whole dump
 * @param missing dump ids of the entries that the server refused
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

/**
 * The counts leave out objects of extensions, so a missing extension changes no count. Objects that depend on it have
 * own entries.
 */
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

/** Returns the partitions whose rows a dump loads through the topmost table, by {@link tableKey}. */
export function loadedThroughRoot(entries: readonly ArchiveEntry[]): Set<string> {
  return new Set(
    entries
      .filter((entry) => rootOfLoad(entry) !== undefined)
      .map(({ schema, tag }) => tableKey({ schema, name: tag })),
  );
}
