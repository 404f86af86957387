import type { DatabaseFacts } from '../facts/facts.ts';
import { keyIn, oneLine, parseToc } from './toc.ts';

type Sequences = Required<Pick<DatabaseFacts, 'sequences' | 'movedSequences'>>;

/**
 * Returns the sequences whose values the dump has. A pattern that leaves out the rows of tables leaves out the values
 * of the sequences that it matches, too.
 *
 * @param list table of contents, as `pg_restore --list` prints it
 */
export function dumpedSequences(
  { encoding }: Pick<DatabaseFacts, 'encoding'>,
  list: string,
  { sequences, movedSequences }: Sequences,
): Sequences {
  const key = keyIn(encoding);
  const values = parseToc(list).flatMap(({ kind, rest }) =>
    kind === 'SEQUENCE' && rest.startsWith('SET ') ? [key(rest.slice('SET '.length))] : [],
  );
  // An owner follows each name, and any of these may hold blanks.
  const named = new Set(values.flatMap((rest) => [...rest.matchAll(/ /g)].map(({ index }) => rest.slice(0, index))));
  const isDumped = ({ schema, name }: { schema: string; name: string }) => named.has(key(oneLine(`${schema} ${name}`)));
  return { sequences: sequences.filter(isDumped), movedSequences: movedSequences.filter(isDumped) };
}
