import { closeSync, constants, openSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../../base/errors.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** The number of symlinks that the kernel follows. */
const MAX_LINKS = 40;

/**
 * Opens a directory, part by part from `/`, and returns its descriptor. Symlinks on the same mount as `/` are followed:
 * in a container, that is its own file system, which came with the image. A symlink in a volume may be a trap, so it is
 * followed only within that volume.
 *
 * @param absolute an absolute path
 * @throws TREE_TARGET_REFUSED for a symlink that leads out of a volume; TOOL_FAILED without /proc; ENOENT, ENOTDIR and
 *   other system errors
 */
export function openPath(absolute: string): number {
  let way = path.resolve(absolute);
  const volumes = new Map<string, string>();
  for (let links = 0; links < MAX_LINKS; links++) {
    const found = descend(way, volumes);
    if (typeof found === 'string') {
      way = found;
      continue;
    }
    const mount = mountOf(found);
    const left = [...volumes].find(([volume]) => volume !== mount);
    if (!left) return found;
    closeSync(found);
    throw new LifeboatError('TREE_TARGET_REFUSED', `${left[1]} is a symlink that leads out of its volume`, {
      hint: 'Other programs can write to the volume, so Lifeboat does not follow the symlink. Name the directory that it leads to.',
    });
  }
  throw Object.assign(new Error(`ELOOP: too many symbolic links, open '${absolute}'`), { code: 'ELOOP' });
}

/**
 * Returns the descriptor, or the path to continue with if a part is a symlink. `volumes` collects the mounts of such
 * symlinks, except that of `/`.
 */
function descend(way: string, volumes: Map<string, string>): number | string {
  const parts = way.split('/').filter((part) => part !== '');
  let at = openSync('/', FLAGS);
  const own = mountOf(at);
  for (let index = 0; index < parts.length; index++) {
    const child = `/proc/self/fd/${at}/${parts[index]}`;
    try {
      const next = openSync(child, FLAGS);
      closeSync(at);
      at = next;
    } catch (error) {
      const mount = mountOf(at);
      const target = hasErrno(error, 'ELOOP', 'ENOTDIR') ? linkAt(child) : undefined;
      closeSync(at);
      if (target === undefined) throw Object.assign(error as Error, { message: messageOf(error, way) });
      if (mount !== own) volumes.set(mount, `/${parts.slice(0, index + 1).join('/')}`);
      return path.resolve('/', ...parts.slice(0, index), target, ...parts.slice(index + 1));
    }
  }
  return at;
}

function linkAt(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}

/** Returns the mount ID of an open directory. A disk that is bind-mounted at two places has two. */
function mountOf(fd: number): string {
  try {
    return /^mnt_id:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';
  } catch (cause) {
    closeSync(fd);
    throw new LifeboatError('TOOL_FAILED', '/proc is not mounted', {
      cause,
      hint: 'Lifeboat reads and writes volumes through /proc/self/fd. Start its container with /proc, as Docker does.',
    });
  }
}

function messageOf(error: unknown, way: string): string {
  return (error as Error).message.replace(/'\/proc\/self\/fd\/.*'$/s, () => `'${way}'`);
}
