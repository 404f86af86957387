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
/** For a file that is read: a FIFO in its place is not waited for. */
const READ_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;

const lstatAsync = promisify(lstat);
const readdirAsync = promisify(readdir);
const unlinkAsync = promisify(unlink);

/** What is kept of a directory itself. `mtime` in nanoseconds since 1970. */
export interface DirectoryMeta {
  mode: number;
  uid: number;
  gid: number;
  mtime: bigint;
}

/**
 * An open directory. Everything in it is reached through its descriptor and by one name at a time, as `openat(2)` and its
 * relatives do, so that no symlink is followed, not even one that takes a directory's place in the meantime. Node has no
 * `openat`: a path `/proc/self/fd/<descriptor>/<name>` means the same to the kernel. Synchronous, except for the threads
 * that callers use on {@link at}.
 */
export class Directory {
  readonly fd: number;
  /** where it was found, for messages */
  readonly place: string;

  private constructor(fd: number, place: string) {
    this.fd = fd;
    this.place = place;
  }

  /** Opens a directory by its absolute path. Throws what {@link openPath} does. */
  static open(path: string): Directory {
    return new Directory(openPath(path), path);
  }

  /** The path of a name in it, for system calls that do not follow a symlink in the last part. */
  at(name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.fd}/${name}`, 'latin1');
  }

  /** Where the kernel says that it is now. */
  realPath(): string {
    return readlinkSync(`/proc/self/fd/${this.fd}`);
  }

  /** Sorted names of all that it holds, one character a byte. */
  names(): string[] {
    // No slash inside: the default order is the byte order.
    return this.call('', () => readdirSync(this.at('.'), { encoding: 'latin1' }).sort());
  }

  /** The same, asked in a thread. It has to stay open until then. */
  async namesLater(): Promise<string[]> {
    return (await this.later('', readdirAsync(this.at('.'), { encoding: 'latin1' }))).sort();
  }

  /** `lstat` of a name; undefined when there is none, as with a name that is longer than the file system allows. */
  look(name: string): BigIntStats | undefined {
    try {
      return lstatSync(this.at(name), { bigint: true, throwIfNoEntry: false });
    } catch (error) {
      if (hasErrno(error, 'ENAMETOOLONG')) return undefined;
      throw this.named(error, name);
    }
  }

  /** The same, asked in a thread. Throws ENOENT. */
  lookLater(name: string): Promise<BigIntStats> {
    return this.later(name, lstatAsync(this.at(name), { bigint: true }));
  }

  /** A directory in it; undefined when nothing, or something else, has that name. */
  enter(name: string): Directory | undefined {
    try {
      return new Directory(openSync(this.at(name), FLAGS), `${this.place}/${displayPath(name)}`);
    } catch (error) {
      if (hasErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP')) return undefined;
      throw this.named(error, name);
    }
  }

  /** Makes a directory that only its owner may enter. Throws EEXIST. */
  create(name: string): void {
    this.call(name, () => mkdirSync(this.at(name), { mode: 0o700 }));
  }

  /** The directory of that name, made where it is missing. Throws EEXIST when something else has the name. */
  make(name: string): Directory {
    if (!this.look(name)) this.create(name);
    const made = this.enter(name);
    if (made) return made;
    const place = shorten(`${this.place}/${displayPath(name)}`);
    throw Object.assign(new Error(`${place} is not a directory`), { code: 'EEXIST' });
  }

  /** Descriptor of a new file, mode 600, for reading and writing. Throws EEXIST. */
  createFile(name: string): number {
    return this.call(name, () => openSync(this.at(name), CREATE_FLAGS, 0o600));
  }

  /** Descriptor of a file to read. Throws ELOOP for a symlink; whether it is a file is for the caller to see. */
  openFile(name: string): number {
    return this.call(name, () => openSync(this.at(name), READ_FLAGS));
  }

  /** Target of a symlink, one character a byte. */
  readLink(name: string): string {
    return this.call(name, () => readlinkSync(this.at(name), { encoding: 'latin1' }));
  }

  /** Makes a symlink. `owner`: whom it is given to. */
  createLink(name: string, target: string, owner?: { uid: number; gid: number }): void {
    this.call(name, () => {
      symlinkSync(Buffer.from(target, 'latin1'), this.at(name));
      if (owner) lchownSync(this.at(name), owner.uid, owner.gid);
    });
  }

  /** Gives a file of another directory a further name here. Throws EEXIST. */
  linkFrom(from: Directory, oldName: string, name: string): void {
    this.call(name, () => linkSync(from.at(oldName), this.at(name)));
  }

  /** Moves a name to another directory of the same file system, where nothing of that name may be. */
  move(name: string, to: Directory, newName = name): void {
    if (to.look(newName)) throw Object.assign(new Error(`${displayPath(newName)} exists`), { code: 'EEXIST' });
    this.replace(name, to, newName);
  }

  /** The same, whatever is there. */
  replace(name: string, to: Directory, newName: string): void {
    this.call(name, () => renameSync(this.at(name), to.at(newName)));
  }

  /** Removes a name that is no directory. */
  unlink(name: string): void {
    this.call(name, () => unlinkSync(this.at(name)));
  }

  /** The same in a thread. */
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

  /** Bytes that are free on its file system. */
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

  /** Sets owner and mode; times are for a `TimeSetter`. */
  own(meta: DirectoryMeta): void {
    this.chown(meta);
    this.chmod(meta.mode);
  }

  /** Sets the modification time of a name, in seconds; for exact ones there is a `TimeSetter`. */
  setTime(name: string, mtime: number): void {
    this.call(name, () => lutimesSync(this.at(name), new Date(), mtime));
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

  /** An error of the system that names the path that people know. */
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
