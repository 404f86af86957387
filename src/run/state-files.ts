import { randomUUID } from 'node:crypto';
import { chmod, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno } from '../base/errors.ts';
import { spoolError } from './spool.ts';

/** Reads a JSON file. Returns undefined if it is missing or cut off, because lost state must not fail a run. */
export async function readJson<T>(file: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T;
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** Deletes files, which also works on a full disk. */
export async function forget(files: readonly string[]): Promise<void> {
  for (const file of files) await rm(file, { force: true });
}

/** the writes that are under way, by file */
const writing = new Map<string, Promise<void>>();

/**
 * Replaces a JSON file, which is on the disk when this resolves. Writes of one file in a process follow each other:
 * they share the name of a temporary file, and the last one counts.
 *
 * @throws SPOOL_FULL
 */
export function writeJson(file: string, value: unknown): Promise<void> {
  const text = JSON.stringify(value);
  const before = writing.get(file);
  const written = before ? before.then(() => replaceFile(file, text)) : replaceFile(file, text);
  const settled = written
    .catch(() => undefined)
    .finally(() => {
      if (writing.get(file) === settled) writing.delete(file);
    });
  writing.set(file, settled);
  return written;
}

async function replaceFile(file: string, text: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await chmod(temporary, 0o600);
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw spoolError(error);
  }
}

/** Returns the id in a file, and creates it at the first call. */
export async function openHome(file: string): Promise<string> {
  const known = await readJson<{ id: string }>(file);
  if (known) return known.id;
  const id = randomUUID();
  await writeJson(file, { id });
  return id;
}
