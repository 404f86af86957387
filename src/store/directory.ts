import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmdirSync,
  unlinkSync,
} from 'node:fs';
import { hasErrno } from '../errors.ts';
import { parentOf, type TreePath } from './path.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

/** What is kept of a directory itself. `mtime` in nanoseconds since 1970. */
export interface DirectoryMeta {
  mode: number;
  uid: number;
  gid: number;
  mtime: bigint;
}

/**
 * An open directory. What is in it is reached through it and by one name at a time, so that no symlink on the way is
 * followed, even one that takes a directory's place meanwhile. Synchronous: for processes that do nothing else.
 */
export class Directory {
  private readonly fd: number;

  private constructor(fd: number) {
    this.fd = fd;
  }

  static open(path: string | Buffer): Directory {
    return new Directory(openSync(path, FLAGS));
  }

  /** The path of a name in it, for system calls that do not follow a symlink in the last part. */
  at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }

  /** Sorted names of all that it holds. */
  names(): string[] {
    return readdirSync(this.at('.'), { encoding: 'latin1' }).sort();
  }

  /** `lstat` of a name; undefined when there is none. */
  look(name: string): BigIntStats | undefined {
    return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
  }

  /** A directory in it; undefined when nothing, or something else, has that name. */
  enter(name: string): Directory | undefined {
    try {
      return Directory.open(this.at(name));
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw error;
    }
  }

  /** A new directory that only its owner may enter, or the one that is there. */
  make(name: string): Directory {
    try {
      mkdirSync(this.at(name), { mode: 0o700 });
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
    return Directory.open(this.at(name));
  }

  /** Moves a name to another directory of the same file system, where nothing of that name may be. */
  move(name: string, to: Directory, newName = name): void {
    if (to.look(newName)) throw Object.assign(new Error(`${newName} exists`), { code: 'EEXIST' });
    renameSync(this.at(name), to.at(newName));
  }

  /** Removes a name with all below it. `heard` is called for each thing that goes. */
  remove(name: string, heard: () => void = () => {}): void {
    const inside = this.enter(name);
    if (!inside) {
      if (this.look(name)) unlinkSync(this.at(name));
    } else {
      try {
        for (const child of inside.names()) inside.remove(child, heard);
      } finally {
        inside.close();
      }
      rmdirSync(this.at(name));
    }
    heard();
  }

  meta(): DirectoryMeta {
    const { mode, uid, gid, mtimeNs } = fstatSync(this.fd, { bigint: true });
    return { mode: Number(mode & 0o7777n), uid: Number(uid), gid: Number(gid), mtime: mtimeNs };
  }

  /** Sets owner and mode; times are for a `TimeSetter`. */
  own({ mode, uid, gid }: DirectoryMeta): void {
    fchownSync(this.fd, uid, gid);
    fchmodSync(this.fd, mode);
  }

  /** Makes names that were added and removed durable. */
  sync(): void {
    try {
      fsyncSync(this.fd);
    } catch (error) {
      // Some network file systems cannot sync a directory.
      if (!hasErrno(error, 'EINVAL', 'ENOTSUP', 'EOPNOTSUPP')) throw error;
    }
  }

  close(): void {
    closeSync(this.fd);
  }
}

/**
 * Works in the directory at `path` below `top`, entered part by part. Undefined when a part of the way is missing or is no
 * directory; with `make`, missing ones are made.
 */
export function within<T>(
  top: Directory,
  path: TreePath,
  work: (directory: Directory) => T,
  { make = false } = {},
): T | undefined {
  if (path === '') return work(top);
  const [first = '', ...rest] = path.split('/');
  const next = make && !top.look(first) ? top.make(first) : top.enter(first);
  if (!next) return undefined;
  try {
    return within(next, rest.join('/'), work, { make });
  } finally {
    next.close();
  }
}

/** The directory part and the last name of a path. */
export function split(path: TreePath): { parent: TreePath; name: string } {
  const parent = parentOf(path);
  return { parent, name: parent === '' ? path : path.slice(parent.length + 1) };
}
