import type { ArchiveEntry } from './archive.ts';
import type { Allowance } from './compare-database.ts';
import { loadedThroughRoot, tableKey } from './compare-rows.ts';
import type { ObjectCounts } from './object-counts.ts';

type Kind = keyof ObjectCounts;

const EVERY: readonly Kind[] = ['constraints', 'indexes', 'views', 'sequences', 'functions', 'triggers', 'policies'];
/** What may be part of a table's own definition, or hang on it. */
const OF_TABLES: readonly Kind[] = ['constraints', 'indexes', 'sequences', 'triggers', 'policies'];

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
  'MATERIALIZED VIEW': ['views', 'indexes'],
  SEQUENCE: ['sequences'],
  FUNCTION: ['functions'],
  PROCEDURE: ['functions'],
  AGGREGATE: ['functions'],
  TRIGGER: ['triggers'],
  POLICY: ['policies'],
};

/**
 * In what a restored database may differ from the record.
 *
 * @param entries the whole dump
 * @param missing dump ids of what was left out, or refused by the server
 * @param moved partitions whose rows were put through the root here, as {@link tableKey} names them
 */
export function allowanceFor(
  entries: readonly ArchiveEntry[],
  missing: ReadonlySet<number>,
  moved: ReadonlySet<string> = new Set(),
): Required<Allowance> {
  const lacking = entries.filter(({ dumpId }) => missing.has(dumpId));
  const named = (...kinds: string[]) => lacking.filter(({ kind }) => kinds.includes(kind));
  return {
    moving: new Set([...loadedThroughRoot(entries), ...moved]),
    extensions: new Set(named('EXTENSION').map(({ tag }) => tag)),
    tables: new Set(named('TABLE', 'TABLE DATA').map(({ schema, tag }) => tableKey({ schema, name: tag }))),
    kinds: new Set(lacking.flatMap(({ kind }) => COUNTED[kind] ?? [])),
    largeObjects: named('BLOB', 'BLOBS', 'BLOB METADATA').length > 0,
  };
}
