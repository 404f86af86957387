import { setTimeout as sleep } from 'node:timers/promises';
import { errorInfo } from '../base/errors.ts';
import type { DrillAssert } from '../plan/values/drill-assert.ts';
import type { DrillCheck } from '../report/drill-report.ts';
import { formatDuration } from '../report/format.ts';
import { serverWords, sqlState } from '../sources/postgres/server/sql-state.ts';
import type { Tools } from '../sources/postgres/server/tools.ts';

/** An assert may take this much longer than its timeout until its connection is cut, milliseconds. */
const GRACE_MS = 5000;

/** The longest message of the server in a report, characters. */
const MAX_WORDS = 300;

interface AssertOptions {
  tools: Tools;
  database: string;
  timeoutMs: number;
  signal: AbortSignal;
}

/**
 * Asks whether an assert is true, in a transaction that can write nothing. The label that holds it is input of a
 * stranger: it is one expression, so it can neither end the transaction nor start another statement. Whatever it does,
 * the result is a check; only the end of the drill rejects.
 */
export async function runAssert(assert: DrillAssert, options: AssertOptions): Promise<DrillCheck> {
  const { database, timeoutMs, signal } = options;
  const name = assert.name === '' ? 'assert' : `assert ${assert.name}`;
  const over = new AbortController();
  const limit = sleep(timeoutMs + GRACE_MS, undefined, { signal: over.signal, ref: false }).then(
    () => over.abort(),
    () => undefined,
  );
  const failed = (detail: string): DrillCheck => ({
    ...{ name, of: database, result: 'failed', expected: true, differences: [assert.sql], detail },
  });
  try {
    const answer = await ask(assert.sql, { ...options, signal: AbortSignal.any([signal, over.signal]) });
    if (answer === true) return { name, of: database, result: 'ok', expected: true, found: true, detail: assert.sql };
    if (answer === false) return { ...failed('it is false'), found: false };
    return failed(answer === null ? 'it is null' : 'it is not a condition: it must be true or false');
  } catch (error) {
    signal.throwIfAborted();
    return failed(whyFailed(error, timeoutMs, over.signal.aborted));
  } finally {
    over.abort();
    await limit;
  }
}

async function ask(sql: string, { tools, database, timeoutMs, signal }: AssertOptions): Promise<unknown> {
  const session = await tools.session(database, signal);
  try {
    // As the application sees the database, which does not write `pg_catalog` in front of its names.
    await session.run('RESET search_path');
    await session.run('BEGIN READ ONLY');
    await session.run(`SET LOCAL statement_timeout = ${timeoutMs}`);
    const expression = sql.trim().replace(/;+\s*$/, '');
    // The line breaks end a comment. A query with a parameter may only be one statement (Postgres docs, 54.2.3).
    const { answer } = await session.one<{ answer: unknown }>(
      `SELECT (\n${expression}\n) AS answer, $1::int AS one`,
      [1],
    );
    return answer;
  } finally {
    await session.close();
  }
}

function whyFailed(error: unknown, timeoutMs: number, isCut: boolean): string {
  const state = sqlState(error);
  // query_canceled
  if (isCut || state === '57014') return `it took longer than ${formatDuration(timeoutMs)}`;
  // read_only_sql_transaction
  if (state === '25006') return `it tries to write: ${words(error)}`;
  // syntax_error: also several statements
  if (state === '42601') return `it is not an SQL expression: ${words(error)}`;
  return words(error);
}

function words(error: unknown): string {
  return (serverWords(error) ?? errorInfo(error).message).slice(0, MAX_WORDS);
}
