import { closeSync, constants, openSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { hasErrno, LifeboatError } from '../../base/errors.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** As many symlinks as the kernel follows. */
const MAX_LINKS = 40;

/**
 * Descriptor of a directory, entered part by part from `/`. Symlinks in the mount that `/` itself is are followed: in a
 * container that is its own disk, which came with the image. One that lies in a volume may be somebody else's, who wants us
 * elsewhere: it is followed only within that volume.
 *
 * @param absolute an absolute path
 * @throws TREE_TARGET_REFUSED for a symlink that leads out of a volume; TOOL_FAILED without /proc; ENOENT, ENOTDIR and
 *   others of the system
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
      hint: 'Others can write there, so it is not followed. Name the place that it leads to.',
    });
  }
  throw Object.assign(new Error(`ELOOP: too many symbolic links, open '${absolute}'`), { code: 'ELOOP' });
}

/** Descriptor, or where a symlink on the way leads. `volumes`: mounts, other than that of `/`, in which one lies. */
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

/** Which mount an open directory is in: a bind of one disk to two places has two. */
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
