import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { listSegments } from './received-files.ts';

/** Received WAL that belongs to no stored history: kept for people, in one directory for each event. */

const ASIDE = '.aside';
/** So many events are kept of each source. */
const KEPT = 10;

/**
 * Moves the segments in a directory of received WAL aside. Moves files, and not their directory: a helper has that one
 * mounted. Removes the oldest of many events.
 *
 * @returns where they are; undefined if there was none
 */
export async function setAside(directory: string, at: Date): Promise<string | undefined> {
  const names = await listSegments(directory);
  if (names.length === 0) return undefined;
  const parent = `${directory}${ASIDE}`;
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const target = path.join(parent, at.toISOString().replaceAll(':', '-'));
  // An event that was interrupted, or another one in the same millisecond, has the same bytes under the same names.
  await mkdir(target, { recursive: true, mode: 0o700 });
  // From the end: what an interruption leaves still follows what is stored.
  for (const name of names.sort().reverse()) await rename(path.join(directory, name), path.join(target, name));
  const former = (await readdir(parent)).sort().slice(0, -KEPT);
  for (const name of former) await rm(path.join(parent, name), { recursive: true, force: true });
  return target;
}
