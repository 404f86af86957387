import { setTimeout as sleep } from 'node:timers/promises';
import { ofDatabase, psql } from './fingerprint.ts';
import { lifeboat } from './project.ts';

/** A table is dropped, and brought back as it was seconds before, with everything that was written until then. */

const TABLE = 'public.reviews';
const WAIT_MS = 120_000;

/** Writes a review that no backup has, and returns the time after it, by the server's clock. */
export async function writeReview(signal: AbortSignal): Promise<{ at: string; rows: string | undefined }> {
  const sql = `INSERT INTO reviews VALUES (1, 4000, 5, 'written seconds before the table was dropped');
    SELECT date_trunc('milliseconds', clock_timestamp()) AT TIME ZONE 'UTC' || 'Z';`;
  const at = await psql(sql, 'shop', signal);
  return { at, rows: (await ofDatabase(signal)).get(TABLE) };
}

/** Drops the table. Resolves to whether it is gone. */
export async function dropTable(signal: AbortSignal): Promise<boolean> {
  await psql('DROP TABLE reviews;', 'shop', signal);
  return !(await ofDatabase(signal)).has(TABLE);
}

/** Waits until Lifeboat can recover the server: its first base backup may wait for the first scheduled run. */
export async function waitForWindow(signal: AbortSignal): Promise<void> {
  await waitUntilRecoverable('the first base backup', () => true, signal);
}

/** Waits until Lifeboat can recover the server to a time. */
export async function waitUntilStored(at: string, signal: AbortSignal): Promise<void> {
  const time = Date.parse(at.replace(' ', 'T'));
  await waitUntilRecoverable(`the changes until ${at}`, (end) => end >= time, signal);
}

/** @param isEnough gets the end of the newest window, milliseconds since the epoch */
async function waitUntilRecoverable(
  what: string,
  isEnough: (end: number) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const until = performance.now() + WAIT_MS;
  while (performance.now() < until) {
    const { status, stdout } = await lifeboat(['windows', 'db.postgres', '--json'], signal);
    if (status === 0) {
      const { sources } = JSON.parse(stdout) as { sources: { windows: { to: string }[] }[] };
      const last = sources[0]?.windows.at(-1);
      if (last && isEnough(Date.parse(last.to))) return;
    }
    await sleep(1000, undefined, { signal });
  }
  throw new Error(`Lifeboat had not stored ${what} after ${WAIT_MS / 1000} s`);
}

/** The rows of the table now. */
export async function rowsNow(signal: AbortSignal): Promise<string | undefined> {
  return (await ofDatabase(signal)).get(TABLE);
}
