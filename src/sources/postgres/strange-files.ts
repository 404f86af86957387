import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { type ErrorCode, LifeboatError } from '../../base/errors.ts';

/**
 * Refuses a dump that holds anything but plain files and directories. The image of the database writes the dump, and
 * may be hostile: through a symbolic link, the agent would read or write one of its own files. Call this function once
 * no helper can change the directory.
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

/** A dump goes no deeper than `databases/<name>/<file>`. */
const MAX_DEPTH = 4;

function strange(code: ErrorCode, name: string, entry: Dirent): LifeboatError {
  const what = entry.isSymbolicLink()
    ? 'a symbolic link'
    : entry.isDirectory()
      ? 'nested too deeply'
      : 'not a plain file';
  return new LifeboatError(
    code,
    `the dump holds ${JSON.stringify(name)}, which is ${what}: no Postgres tool creates that`,
    {
      hint: 'Something else in the image of the database wrote it. Check where the image comes from.',
    },
  );
}
