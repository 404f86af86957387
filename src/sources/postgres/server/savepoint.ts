import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/**
 * Runs work in a transaction, then rolls back its changes, locks and settings. Returns the result of the work, or the
 * error if the server refused it. Throws when the session is lost.
 */
export async function inSavepoint<T>(session: Session, work: () => Promise<T>): Promise<T | Error> {
  await session.run('SAVEPOINT looking');
  try {
    return await work();
  } catch (error) {
    if (sqlState(error) === undefined || !(error instanceof Error)) throw error;
    return error;
  } finally {
    await session.run('ROLLBACK TO SAVEPOINT looking').catch(() => undefined);
  }
}
