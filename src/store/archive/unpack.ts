import { hasErrno } from '../../base/errors.ts';
import { Directory } from '../filesystem/directory.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import { OpenDirectories, within } from '../filesystem/open-directories.ts';
import { isSafePath, parentOf, shortPath, split, type TreePath } from '../filesystem/path.ts';
import { createTimeSetter, type TimeSetter } from '../filesystem/times.ts';
import { type NewName, writeLargeFile } from '../filesystem/write-file.ts';
import type { ArchiveMember } from './archive-member.ts';
import { refused, unreadable } from './import-errors.ts';
import { LostMembers } from './lost-members.ts';
import { SpoolSpace } from './spool-space.ts';

/** Owner, mode and time of the root of the tree. */
export type RootMeta = Pick<IndexEntry, 'mode' | 'uid' | 'gid' | 'mtime'>;

interface UnpackOptions {
  members: AsyncIterable<ArchiveMember>;
  /** an existing empty directory that nobody else writes to */
  target: string;
  /** number of leading parts of each name to remove */
  strip: number;
  /** metadata of the root, if the archive does not contain it */
  root?: RootMeta;
  signal?: AbortSignal;
  progress?(progress: { done: number; files: number }): void;
}

/** The unpacked tree. */
interface Unpacked {
  files: number;
  bytes: number;
  warnings: string[];
}

/**
 * Unpacks an untrusted archive. Everything is created through open directories and by one name at a time, so nothing
 * outside the target can be reached: `..` and a name below a symlink are refused. A leading `/` is dropped, as by tar.
 * Symlinks are created as they are, and not followed. Devices, FIFOs and sockets are left out. If a name occurs twice,
 * the later member counts, as with tar.
 *
 * @throws IMPORT_REFUSED, IMPORT_UNREADABLE, SPOOL_FULL; the signal's reason
 */
export async function unpack(options: UnpackOptions): Promise<Unpacked> {
  const target = Directory.open(options.target);
  const times = await createTimeSetter(target);
  const space = new SpoolSpace(options.target, 'the content of the archive');
  const work = new Unpacking(options, target, times, space);
  try {
    return await work.run();
  } catch (error) {
    times.abort();
    throw space.explain(error);
  } finally {
    work.close();
    target.close();
  }
}

class Unpacking {
  private readonly options: UnpackOptions;
  private readonly target: Directory;
  private readonly times: TimeSetter;
  private readonly open: OpenDirectories;
  private readonly directories = new Map<TreePath, RootMeta>();
  private readonly result: Unpacked = { files: 0, bytes: 0, warnings: [] };
  private readonly lost = new LostMembers();
  private readonly space: SpoolSpace;

  constructor(options: UnpackOptions, target: Directory, times: TimeSetter, space: SpoolSpace) {
    this.options = options;
    this.space = space;
    this.target = target;
    this.times = times;
    this.open = new OpenDirectories(target);
  }

  async run(): Promise<Unpacked> {
    const { members, signal, root } = this.options;
    for await (const member of members) {
      signal?.throwIfAborted();
      const path = this.pathOf(member.name, member.name);
      if (path !== undefined) await this.make(path, member);
      else if (member.type !== 'directory') this.lost.add('stripped', member.name);
      this.options.progress?.({ done: this.result.bytes, files: this.result.files });
    }
    if (!this.directories.has('')) {
      this.directories.set('', root ?? { mode: 0o755, uid: 0, gid: 0, mtime: 0n });
      const from = root ? 'taken from the last snapshot' : 'root, 755';
      this.result.warnings.push(`the archive does not contain the owner and mode of the top directory: ${from}`);
    }
    await this.finishDirectories();
    this.result.warnings.push(...this.lost.warnings());
    return this.result;
  }

  close(): void {
    this.open.close();
  }

  /** Returns the path in the tree; undefined if `strip` removes all of it. */
  private pathOf(name: TreePath, shown: TreePath): TreePath | undefined {
    const kept = name.split('/').filter((part) => part !== '.' && part !== '');
    const path = kept.slice(this.options.strip).join('/');
    if (!isSafePath(kept.join('/'))) throw refused(`the archive has a name that leads out of it: ${shortPath(shown)}`);
    if (this.options.strip > 0 && kept.length <= this.options.strip)
      return kept.length < this.options.strip ? undefined : '';
    return path;
  }

  private async make(path: TreePath, member: ArchiveMember): Promise<void> {
    const { type, mode, uid = 0, gid = 0, mtime } = member;
    if (type === 'other') {
      this.lost.add('special', member.name);
      return;
    }
    if (type === 'directory') {
      this.makeDirectory(path, { mode: mode ?? 0o755, uid, gid, mtime });
      return;
    }
    // `strip` leaves nothing of it, so it is left out, as tar does.
    if (path === '' && this.options.strip > 0) {
      this.lost.add('stripped', member.name);
      return;
    }
    if (path === '') throw refused('the archive has a file as its top directory');
    const entry = { path, type: 'file', mode: mode ?? 0o644, uid, gid, mtime, sparse: true } satisfies IndexEntry;
    await this.place(entry, async (to) => {
      if (type === 'file') await this.write(to, entry, member);
      else if (type === 'hardlink') this.link(to, member);
      else to.directory.createLink(to.name, linkText(member), { uid, gid });
    });
    if (type !== 'hardlink') await this.times.set(path, mtime);
    if (type !== 'symlink') this.result.files++;
  }

  private makeDirectory(path: TreePath, meta: RootMeta): void {
    this.reach(path, path);
    this.directories.set(path, meta);
  }

  /** Creates the missing directories of a path. Refuses a symlink or file on the way. */
  private reach(path: TreePath, shown: TreePath): void {
    try {
      if (path !== '' && within(this.target, path, () => true, { make: true }) === undefined) throw new Error('no way');
    } catch (error) {
      if (hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      throw refused(`the archive has ${shortPath(shown)} below something that is not a directory`);
    }
  }

  private async place({ path, mtime }: IndexEntry, work: (to: NewName) => Promise<void>): Promise<void> {
    const { parent, name } = split(path);
    if (this.open.use(parent, () => true) === undefined) {
      this.reach(parent, path);
      // Directories without a member of their own.
      for (let at = parent; at !== '' && !this.directories.has(at); at = parentOf(at)) {
        this.directories.set(at, { mode: 0o755, uid: 0, gid: 0, mtime });
      }
    }
    try {
      await this.open.need(parent, async (directory) => {
        const there = directory.look(name);
        if (there?.isDirectory()) throw refused(`the archive has ${shortPath(path)} twice, once as a directory`);
        if (there) {
          directory.unlink(name);
          this.lost.add('replaced', path);
        }
        await work({ directory, name });
      });
    } catch (error) {
      if (!hasErrno(error, 'ENAMETOOLONG', 'ENOENT', 'EINVAL')) throw error;
      throw refused(`the archive has a name that cannot be created: ${shortPath(path)}`);
    }
  }

  private async write(to: NewName, entry: IndexEntry, member: ArchiveMember): Promise<void> {
    const written = await writeLargeFile(to, entry, this.counted(member), true);
    if (written !== member.size)
      throw unreadable(`${shortPath(entry.path)} has a different size than the archive says`);
  }

  private async *counted(member: ArchiveMember): AsyncGenerator<Buffer> {
    for await (const chunk of member.content()) {
      this.options.signal?.throwIfAborted();
      this.result.bytes += chunk.length;
      await this.space.take(chunk.length);
      yield chunk;
    }
  }

  private link({ directory, name }: NewName, member: ArchiveMember): void {
    const target = this.pathOf(member.target ?? '', member.name);
    const from = split(target ?? '');
    const found = this.open.use(from.parent, (there) => {
      if (!there.look(from.name)?.isFile()) return false;
      directory.linkFrom(there, from.name, name);
      return true;
    });
    if (!found)
      throw refused(`the archive has a hard link to something that is not a file in it: ${shortPath(member.name)}`);
  }

  /**
   * Finishes the deepest directories first. Modes come last, so that a directory without permissions does not block
   * access to its content.
   */
  private async finishDirectories(): Promise<void> {
    const sorted = [...this.directories].sort(([a], [b]) => (a < b ? 1 : -1));
    for (const [path, meta] of sorted) {
      this.open.need(path, (directory) => directory.chown(meta));
      await this.times.set(path, meta.mtime);
    }
    await this.times.finish();
    for (const [path, { mode }] of sorted) this.open.need(path, (directory) => directory.chmod(mode));
  }
}

function linkText({ target = '', name }: ArchiveMember): TreePath {
  if (target === '' || target.includes('\0')) throw refused(`the archive has a symlink to nothing: ${shortPath(name)}`);
  return target;
}
