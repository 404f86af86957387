import { ownTable } from '../definitions/own.ts';
import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';

/** A sequence with the last value that it returned; null if it has returned none. */
export interface SequenceValue {
  schema: string;
  name: string;
  value: string | null;
}

/** A sequence that moved during a dump, with its values before and after. The dump may have any value in between. */
export interface MovedSequence extends SequenceValue {
  after: string | null;
  /** the values become smaller */
  falls?: true;
}

/** Reading waits this long for a lock, milliseconds. */
const LOCK_LIMIT_MS = 5000;

/** The functions refuse what is no sequence, so they only see those of the catalogue of sequences. */
const QUERY = `SELECT nspname AS schema, relname AS name, pg_sequence_last_value(s.seqrelid)::text AS value,
          seqincrement < 0 AS falls
   FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relpersistence = 'p' AND ${ownTable('c.oid')} AND has_sequence_privilege(s.seqrelid, 'SELECT,USAGE')
  ORDER BY 1, 2`;

/**
 * Reads the values of the sequences in the session's database. Sequences stand outside of transactions, so these are
 * the present values. Leaves out sequences that the role may not read, and unlogged ones, which a standby lacks.
 */
export async function readSequences(session: Session): Promise<SequenceValue[]> {
  return (await read(session)).map(({ schema, name, value }) => ({ schema, name, value }));
}

async function read(session: Session): Promise<(SequenceValue & { falls?: boolean })[]> {
  // A session may hold a lock on a sequence for as long as it likes.
  await session.run(`SET lock_timeout = ${LOCK_LIMIT_MS}`);
  try {
    return await session.all(QUERY);
  } finally {
    await session.run('RESET lock_timeout').catch(() => undefined);
  }
}

/** The sequences of a dump. */
interface SequenceFacts {
  /** those that did not move: the dump has exactly these values */
  sequences: SequenceValue[];
  moved: MovedSequence[];
}

/** The values that sequences have before a dump. */
interface WatchedSequences {
  /**
   * Reads the values again, outside of a transaction. Returns an empty object if the server refuses to tell them: no
   * dump needs them. Never rejects.
   */
  afterwards(): Promise<SequenceFacts | Record<string, never>>;
}

/** Reads the values of sequences before a dump. Rejects only if the session is lost. */
export async function watchSequences(session: Session): Promise<WatchedSequences> {
  const before = await read(session).catch((error: unknown) => {
    if (sqlState(error) === undefined) throw error;
    return undefined;
  });
  return {
    async afterwards() {
      const after = before && (await read(session).catch(() => undefined));
      if (!before || !after) return {};
      const now = new Map(after.map((one) => [keyOf(one), one.value]));
      const facts: SequenceFacts = { sequences: [], moved: [] };
      for (const { falls, ...one } of before) {
        const value = now.get(keyOf(one));
        if (value === one.value) facts.sequences.push(one);
        else if (value !== undefined) facts.moved.push({ ...one, after: value, ...(falls ? { falls } : {}) });
      }
      return facts;
    },
  };
}

/** A recorded sequence, and what a restored database has instead: undefined if it has none of that name. */
interface DifferingSequence {
  recorded: SequenceValue | MovedSequence;
  found: SequenceValue | undefined;
}

/**
 * Returns the sequences that a restored database lacks, has at another value than recorded, or has outside of the
 * values before and after the dump.
 */
export function differingSequences(
  { sequences, moved = [] }: { sequences: readonly SequenceValue[]; moved?: readonly MovedSequence[] },
  restored: readonly SequenceValue[],
): DifferingSequence[] {
  const now = new Map(restored.map((one) => [keyOf(one), one]));
  const differing = (recorded: SequenceValue | MovedSequence, isEqual: (value: string | null) => boolean) => {
    const found = now.get(keyOf(recorded));
    return found && isEqual(found.value) ? [] : [{ recorded, found }];
  };
  return [
    ...sequences.flatMap((one) => differing(one, (value) => value === one.value)),
    ...moved.flatMap((one) => differing(one, (value) => isBetween(value, one))),
  ];
}

/** Returns whether a sequence may have had a value while it moved. One that began again may have had any. */
function isBetween(value: string | null, { value: from, after: to, falls }: MovedSequence): boolean {
  if (to === null) return true;
  if (value === null) return from === null;
  const [low, high] = falls ? [to, from] : [from, to];
  const [least, most] = [low, high].map((one) => (one === null ? undefined : BigInt(one)));
  if (least !== undefined && most !== undefined && least > most) return true;
  return (least === undefined || BigInt(value) >= least) && (most === undefined || BigInt(value) <= most);
}

function keyOf({ schema, name }: Pick<SequenceValue, 'schema' | 'name'>): string {
  return JSON.stringify([schema, name]);
}
