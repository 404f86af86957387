import type { Session } from './session.ts';
import { sqlState } from './sql-state.ts';

/**
 * Does something in a transaction and takes it back, locks and settings too. What the work gives, or what the server refused it with. Throws when the
 * session is lost.
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
