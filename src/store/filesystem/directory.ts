import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  lchownSync,
  linkSync,
  lstat,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdir,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statfsSync,
  symlinkSync,
  unlink,
  unlinkSync,
} from 'node:fs';
import { promisify } from 'node:util';
import { hasErrno } from '../../base/errors.ts';
import { openPath } from './open-path.ts';
import { displayPath, shorten } from './path.ts';
import { nameDescriptor } from './system-error.ts';

const FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** For reading a file. Opening a FIFO in its place does not block. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

const lstatAsync = promisify(lstat);
const readdirAsync = promisify(readdir);
const unlinkAsync = promisify(unlink);

/** The metadata of a directory. `mtime` in nanoseconds since 1970. */
export interface DirectoryMeta {
  mode: number;
  uid: number;
  gid: number;
  mtime: bigint;
}

/**
 * An open directory. Everything in it is reached through its descriptor and by one name at a time, like with
 * `openat(2)`, so no symlink is followed, not even one that replaces a directory meanwhile. Node has no `openat`, but
 * the kernel treats a path `/proc/self/fd/<descriptor>/<name>` the same way. Methods are synchronous, except for those
 * that end in `Later`.
 */
export class Directory {
  readonly fd: number;
  /** the path by which it was opened, for messages */
  readonly place: string;

  private constructor(fd: number, place: string) {
    this.fd = fd;
    this.place = place;
  }

  /** Opens a directory by its absolute path. Throws like {@link openPath}. */
  static open(path: string): Directory {
    return new Directory(openPath(path), path);
  }

  /** Returns the path of a name in it, for system calls that do not follow a symlink in the last part. */
  at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }

  /** Returns its current path, according to the kernel. */
  realPath(): string {
    return readlinkSync(`/proc/self/fd/${this.fd}`);
  }

  /** Returns the sorted names in it, with one character per byte. */
  names(): string[] {
    // Names contain no slash, so the default order is that of the bytes.
    return this.call('', () => readdirSync(this.at('.'), { encoding: 'latin1' }).sort());
  }

  /** Like {@link names}, in a thread. The directory must stay open meanwhile. */
  async namesLater(): Promise<string[]> {
    return (await this.later('', readdirAsync(this.at('.'), { encoding: 'latin1' }))).sort();
  }

  /** Returns `lstat` of a name; undefined if there is none, or if the name is longer than the file system allows. */
  look(name: string): BigIntStats | undefined {
    try {
      return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      if (hasErrno(error, 'ENAMETOOLONG')) return undefined;
      throw this.named(error, name);
    }
  }

  /** Like {@link look}, in a thread. Throws ENOENT. */
  lookLater(name: string): Promise<BigIntStats> {
    return this.later(name, lstatAsync(this.at(name), { bigint: true }));
  }

  /** Opens a directory in it. Returns undefined if nothing has that name, or something else does. */
  enter(name: string): Directory | undefined {
    try {
      return new Directory(openSync(this.at(name), FLAGS), `${this.place}/${displayPath(name)}`);
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw this.named(error, name);
    }
  }

  /** Creates a directory that only its owner may enter. Throws EEXIST. */
  create(name: string): void {
    this.call(name, () => mkdirSync(this.at(name), { mode: 0o700 }));
  }

  /**
   * Opens the directory of that name, and creates it if it is missing. Throws EEXIST if the name belongs to something
   * else.
   */
  make(name: string): Directory {
    if (!this.look(name)) this.create(name);
    const made = this.enter(name);
    if (made) return made;
    const place = shorten(`${this.place}/${displayPath(name)}`);
    throw Object.assign(new Error(`${place} is not a directory`), { code: 'EEXIST' });
  }

  /** Creates a file (mode 600), and returns a descriptor for reading and writing. Throws EEXIST. */
  createFile(name: string): number {
    return this.call(name, () => openSync(this.at(name), CREATE_FLAGS, 0o600));
  }

  /**
   * Opens a file for reading, or also for writing, and returns its descriptor. Throws ELOOP for a symlink. The caller
   * must check that it is a regular file.
   */
  openFile(name: string, writing = false): number {
    const flags = READ_FLAGS | (writing ? constants.O_RDWR : 0);
    return this.call(name, () => openSync(this.at(name), flags));
  }

  /** Returns the target of a symlink, with one character per byte. */
  readLink(name: string): string {
    return this.call(name, () => readlinkSync(this.at(name), { encoding: 'latin1' }));
  }

  /** Creates a symlink. `owner`: its owner, by default the process. */
  createLink(name: string, target: string, owner?: { uid: number; gid: number }): void {
    this.call(name, () => {
      symlinkSync(Buffer.from(target, 'latin1'), this.at(name));
      if (owner) lchownSync(this.at(name), owner.uid, owner.gid);
    });
  }

  /** Creates a hard link to a file in another directory. Throws EEXIST. */
  linkFrom(from: Directory, oldName: string, name: string): void {
    this.call(name, () => linkSync(from.at(oldName), this.at(name)));
  }

  /** Moves a name to another directory of the same file system. Throws EEXIST if the new name exists. */
  move(name: string, to: Directory, newName = name): void {
    if (to.look(newName)) throw Object.assign(new Error(`${displayPath(newName)} exists`), { code: 'EEXIST' });
    this.replace(name, to, newName);
  }

  /** Like {@link move}, but replaces an existing name. */
  replace(name: string, to: Directory, newName: string): void {
    this.call(name, () => renameSync(this.at(name), to.at(newName)));
  }

  /** Removes a name that is not a directory. */
  unlink(name: string): void {
    this.call(name, () => unlinkSync(this.at(name)));
  }

  /** Like {@link unlink}, in a thread. */
  unlinkLater(name: string): Promise<void> {
    return this.later(name, unlinkAsync(this.at(name)));
  }

  /** Removes an empty directory. */
  removeDirectory(name: string): void {
    this.call(name, () => rmdirSync(this.at(name)));
  }

  meta(): DirectoryMeta {
    const { mode, uid, gid, mtimeNs } = fstatSync(this.fd, { bigint: true });
    return { mode: Number(mode & 0o7777n), uid: Number(uid), gid: Number(gid), mtime: mtimeNs };
  }

  stat(): BigIntStats {
    return fstatSync(this.fd, { bigint: true });
  }

  /** Returns the free space of its file system, bytes. */
  free(): number {
    const { bavail, bsize } = statfsSync(this.at('.'));
    return bavail * bsize;
  }

  chown({ uid, gid }: { uid: number; gid: number }): void {
    this.call('', () => fchownSync(this.fd, uid, gid));
  }

  chmod(mode: number): void {
    this.call('', () => fchmodSync(this.fd, mode));
  }

  /** Sets owner and mode. A `TimeSetter` sets times. */
  own(meta: DirectoryMeta): void {
    this.chown(meta);
    this.chmod(meta.mode);
  }

  /** Sets the modification time of a name, in seconds, and rounded. A `TimeSetter` sets exact times. */
  setTime(name: string, mtime: number): void {
    this.call(name, () => lutimesSync(this.at(name), new Date(), mtime));
  }

  /** Makes added and removed names durable. */
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

  /** Returns a system error with the path that users know. */
  named(error: unknown, name: string): unknown {
    return nameDescriptor(error, name === '' ? this.place : `${this.place}/${displayPath(name)}`);
  }

  private later<T>(name: string, work: Promise<T>): Promise<T> {
    return work.catch((error: unknown) => {
      throw this.named(error, name);
    });
  }

  private call<T>(name: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw this.named(error, name);
    }
  }
}
