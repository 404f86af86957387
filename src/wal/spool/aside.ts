import { lstat, mkdir, readdir, rename, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorInfo, hasErrno } from '../../base/errors.ts';
import type { Problem } from '../../plan/model.ts';
import { formatBytes } from '../../report/format.ts';
import { listSegments } from './received-files.ts';

/** Received WAL that belongs to no stored history: kept for people, in one directory for each event. */

const ASIDE = '.aside';
/** Nobody knows the window of a source that nobody asks for. */
export const KEPT_DAYS = 30;

/** WAL that was set aside at a time. */
interface Aside {
  directory: string;
  /** ISO time */
  at: string;
  /** bytes */
  size: number;
}

/**
 * Moves the segments in a directory of received WAL aside. Moves files, and not their directory: a helper has that one
 * mounted.
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
  return target;
}

/** Returns the WAL of a directory that was set aside, oldest first. */
export async function listAside(directory: string): Promise<Aside[]> {
  const parent = `${directory}${ASIDE}`;
  const found: Aside[] = [];
  for (const name of await namesIn(parent)) {
    const at = name.replace(/T(\d\d)-(\d\d)-/, 'T$1:$2:');
    if (Number.isNaN(Date.parse(at))) continue;
    let size = 0;
    // The receiver and LeftWal may delete it at the same time.
    for (const file of await namesIn(path.join(parent, name)))
      size += (await lstat(path.join(parent, name, file)).catch(missing))?.size ?? 0;
    found.push({ directory: path.join(parent, name), at, size });
  }
  return found.sort((a, b) => (a.at < b.at ? -1 : 1));
}

async function namesIn(directory: string): Promise<string[]> {
  return (await readdir(directory).catch(missing)) ?? [];
}

function missing(error: unknown): undefined {
  if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
}

/**
 * Returns the WAL of a directory that was set aside, as problems for people.
 *
 * @param until when Lifeboat removes it, for people
 */
export async function asideProblems(directory: string, until = 'until the window is over'): Promise<ErrorInfo[]> {
  return (await listAside(directory)).map(({ directory: where, at, size }) => ({
    code: 'WAL_DIVERGED',
    message: `${formatBytes(size)} of WAL that belongs to no stored history are set aside since ${at}`,
    hint: `They are in ${where} in the Lifeboat container ${until}. If nobody needs them, delete them.`,
  }));
}

/** Returns the sources with WAL that was set aside. `spool`: the directory of received WAL */
export async function sourcesWithAside(spool: string): Promise<string[]> {
  return (await namesIn(spool)).filter((name) => name.endsWith(ASIDE)).map((name) => name.slice(0, -ASIDE.length));
}

/** Returns the WAL that was set aside of all sources but those that `shown` lists, as problems for people. */
export async function leftAsideProblems(spool: string, shown: readonly string[]): Promise<Problem[]> {
  const left = (await sourcesWithAside(spool)).filter((name) => !shown.includes(name));
  const until = `until the window is over, or for ${KEPT_DAYS} days once nobody asks for the source`;
  const found = left.map(async (subject) => {
    const problems = await asideProblems(path.join(spool, subject), until);
    return problems.map((one) => ({ severity: 'warning' as const, subject, ...one }));
  });
  return (await Promise.all(found)).flat();
}

/** Removes the WAL of a directory that was set aside before a time. */
export async function removeAside(directory: string, before: Date): Promise<void> {
  for (const one of await listAside(directory))
    if (Date.parse(one.at) < before.getTime()) await rm(one.directory, { recursive: true, force: true });
  await rmdir(`${directory}${ASIDE}`).catch((error: unknown) => {
    if (!hasErrno(error, 'ENOENT', 'ENOTEMPTY', 'EEXIST')) throw error;
  });
}
