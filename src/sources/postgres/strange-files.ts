import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';

/**
 * Refuses a dump that holds anything but plain files and directories. A database's image writes it, and may be hostile: through a
 * symbolic link the agent would read or write a file of its own. To be called when no helper can change the directory any more.
 *
 * @throws LifeboatError with `code`, naming the first such entry
 */
export async function refuseStrangeFiles(root: string, code: ErrorCode): Promise<void> {
  const directories = [{ directory: root, depth: 0 }];
  for (let next = directories.pop(); next; next = directories.pop()) {
    const { directory, depth } = next;
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const file = path.join(directory, entry.name);
      const isDeep = depth === MAX_DEPTH;
      if (entry.isDirectory() && !isDeep) directories.push({ directory: file, depth: depth + 1 });
      else if (!entry.isFile()) throw strange(code, path.relative(root, file), entry);
    }
  }
}

/** `databases/<name>/<file>` is the deepest that a dump has. */
const MAX_DEPTH = 4;

function strange(code: ErrorCode, name: string, entry: Dirent): LifeboatError {
  const what = entry.isSymbolicLink()
    ? 'a symbolic link'
    : entry.isDirectory()
      ? 'a directory too many'
      : 'not a plain file';
  return new LifeboatError(
    code,
    `the dump holds ${JSON.stringify(name)}, which is ${what}: no tool of Postgres makes that`,
    {
      hint: 'The image of the database is not what it seems: look where it comes from.',
    },
  );
}
