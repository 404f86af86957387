import { lstat, readdir, rmdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { hasErrno } from '../base/errors.ts';
import type { SweepOptions } from './destination.ts';
import { checkPrefix } from './keys.ts';

const DAY_MS = 24 * 60 * 60 * 1000;
const TEMPORARY = /^\..*\.tmp$/s;

/** The temporary files that this process is writing, whichever destination does. */
const storing = new Set<string>();

/** Protects a temporary file from sweeps until the returned function is called. */
export function beginFile(file: string): () => void {
  storing.add(file);
  return () => void storing.delete(file);
}

/** Removes temporary files below a prefix of a directory, and the directories that are empty afterwards. */
export function sweepFiles(root: string, { prefix = '', olderThanMs = DAY_MS, recent }: SweepOptions = {}) {
  const below = recent && join(root, checkPrefix(recent.prefix));
  const ageOf = (file: string) => (below && file.startsWith(below) ? recent.olderThanMs : olderThanMs);
  return sweep(join(root, checkPrefix(prefix)), (file) => Date.now() - ageOf(file));
}

/** `before`: returns until when a file was last written at most, milliseconds since 1970. */
async function sweep(directory: string, before: (file: string) => number): Promise<number> {
  let removed = 0;
  const entries = await readdir(directory, { withFileTypes: true }).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return [];
    throw error;
  });
  for (const entry of entries) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) {
      removed += await sweep(path, before).catch(() => 0);
      // A directory that is not empty stays.
      await rmdir(path).catch(() => undefined);
    } else if (entry.isFile() && TEMPORARY.test(entry.name) && !storing.has(path)) {
      if ((await lstat(path)).mtimeMs > before(path)) continue;
      await unlink(path);
      removed++;
    }
  }
  return removed;
}
