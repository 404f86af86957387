import type { Directory } from './directory.ts';

/**
 * Removes a name with all below it. `heard` is called for each thing that goes. Where something cannot be removed, the rest
 * goes all the same; then throws why the first of it could not.
 */
export function removeTree(parent: Directory, name: string, heard: () => void = () => {}): void {
  const inside = parent.enter(name);
  if (inside) {
    try {
      removeContent(inside, heard);
    } finally {
      inside.close();
    }
    parent.removeDirectory(name);
  } else if (parent.look(name)) parent.unlink(name);
  heard();
}

function removeContent(directory: Directory, heard: () => void): void {
  let failed: unknown;
  for (const name of directory.names()) {
    try {
      removeTree(directory, name, heard);
    } catch (error) {
      failed ??= error;
    }
  }
  if (failed !== undefined) throw failed;
}
