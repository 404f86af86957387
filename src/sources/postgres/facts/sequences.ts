import type { Session } from '../server/session.ts';
import { sqlState } from '../server/sql-state.ts';
import { ownTable } from './object-counts.ts';

/** A sequence with the last value that it returned; null if it has returned none. */
export interface SequenceValue {
  schema: string;
  name: string;
  value: string | null;
}

/** Reading waits this long for a lock, milliseconds. */
const LOCK_LIMIT_MS = 5000;

/** The functions refuse what is no sequence, so they only see those of the catalogue of sequences. */
const QUERY = `SELECT nspname AS schema, relname AS name, pg_sequence_last_value(s.seqrelid)::text AS value
   FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relpersistence = 'p' AND ${ownTable('c.oid')} AND has_sequence_privilege(s.seqrelid, 'SELECT,USAGE')
  ORDER BY 1, 2`;

/**
 * Reads the values of the sequences in the session's database. Sequences stand outside of transactions, so these are
 * the present values. Leaves out sequences that the role may not read, and unlogged ones, which a standby lacks.
 */
export async function readSequences(session: Session): Promise<SequenceValue[]> {
  // A session may hold a lock on a sequence for as long as it likes.
  await session.run(`SET lock_timeout = ${LOCK_LIMIT_MS}`);
  try {
    return await session.all<SequenceValue>(QUERY);
  } finally {
    await session.run('RESET lock_timeout').catch(() => undefined);
  }
}

/** The values that sequences have before a dump. */
interface WatchedSequences {
  /**
   * Reads the values again, outside of a transaction, and returns those that are the same. The dump has exactly these.
   * Of a sequence that moved meanwhile, it may have any value in between. Returns an empty object if the server refuses
   * to tell them: no dump needs them. Never rejects.
   */
  unmoved(): Promise<{ sequences?: SequenceValue[] }>;
}

/** Reads the values of sequences before a dump. Rejects only if the session is lost. */
export async function watchSequences(session: Session): Promise<WatchedSequences> {
  const before = await readSequences(session).catch((error: unknown) => {
    if (sqlState(error) === undefined) throw error;
    return undefined;
  });
  return {
    async unmoved() {
      const after = before && (await readSequences(session).catch(() => undefined));
      if (!before || !after) return {};
      const now = new Map(after.map((one) => [keyOf(one), one.value]));
      return { sequences: before.filter((one) => now.get(keyOf(one)) === one.value) };
    },
  };
}

/** Returns the recorded sequences that a restored database lacks or has at another value, with that value. */
export function differingSequences(
  recorded: readonly SequenceValue[],
  restored: readonly SequenceValue[],
): { recorded: SequenceValue; found: SequenceValue | undefined }[] {
  const now = new Map(restored.map((one) => [keyOf(one), one]));
  return recorded.flatMap((one) => {
    const found = now.get(keyOf(one));
    return found && found.value === one.value ? [] : [{ recorded: one, found }];
  });
}

function keyOf({ schema, name }: SequenceValue): string {
  return JSON.stringify([schema, name]);
}
