import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, ftruncateSync } from 'node:fs';
import { readRangeOf } from '../../base/read-range.ts';
import { pairs, rangesText } from '../filesystem/data-ranges.ts';
import type { Directory } from '../filesystem/directory.ts';
import { remoteFileSystem } from '../filesystem/file-system.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import type { TreePath } from '../filesystem/path.ts';
import { finishFile, type NewName, writeAt } from '../filesystem/write-file.ts';
import type { NewTree } from './new-tree.ts';

/** A part to restore. */
export interface PartTask extends IndexPart {
  /** the inode of the file that was created for it, as a decimal number */
  inode: string;
  /** its number in the file, from 0 */
  number: number;
  /** number of parts of the file */
  of: number;
  /** whether the file had holes */
  sparse: boolean;
}

/** Hashes the parts of a file as they are written, if they arrive in order. */
interface Running {
  path: TreePath;
  hash: Hash;
  /** number of the next part */
  next: number;
}

/**
 * Assembles large files in a new tree. The parts of a file may arrive in any order and over a long time: each pack is
 * read once, whichever files its parts belong to. Memory does not grow with the number of parts.
 */
export class FilesInParts {
  private readonly made: NewTree;
  private readonly hasInodes: boolean;
  /** the file that was written last */
  private open: { path: TreePath; fd: number } | undefined;
  private running: Running | undefined;
  /** of the part being written, or of its file */
  private hashing = createHash('sha256');
  /** `<inode> <SHA-256>` of the files whose parts arrived in order */
  private readonly hashed = new Set<string>();

  constructor(made: NewTree, target: Directory) {
    this.made = made;
    // Elsewhere, an inode may change while nobody has the file open.
    this.hasInodes = remoteFileSystem(target) === undefined;
  }

  /** Creates a file that is one hole. Returns its inode. Throws like {@link NewTree.make}. */
  create(entry: IndexEntry): Promise<string> {
    return this.made.make(entry, ({ directory, name }) => {
      const fd = directory.createFile(name);
      try {
        ftruncateSync(fd, entry.size ?? 0);
        return String(fstatSync(fd, { bigint: true }).ino);
      } finally {
        closeSync(fd);
      }
    });
  }

  /**
   * Writes a piece of a part. `at`: its offset in the part; the pieces of a part follow each other. Returns false if
   * the part is complete now, and its content is not that of the task. The hash of a whole file whose parts arrive in
   * order is left to {@link finish}. Calls must not overlap. Throws like {@link NewTree.make}.
   */
  async write(task: PartTask, at: number, bytes: Buffer): Promise<boolean> {
    const { path, inode, offset, size, sparse } = task;
    if (at === 0) this.hashing = this.beginHash(task);
    this.hashing.update(bytes);
    await this.made.make({ path, type: 'file' }, (name) =>
      writeAt(this.reopen(path, inode, name), { content: bytes, offset: offset + at, sparse }),
    );
    return at + bytes.length < size || this.endHash(task);
  }

  /**
   * Verifies a whole file, and gives it its owner and mode. Returns whether its content is that of the entry. `heard`
   * is called while the file is read. Throws like {@link NewTree.make}.
   */
  finish(entry: IndexEntry, inode: string, { owner, heard }: { owner: boolean; heard: () => void }): Promise<boolean> {
    return this.made.make(entry, async (at) => {
      const fd = this.reopen(entry.path, inode, at);
      if (!this.hashed.has(`${inode} ${entry.sha256}`) && (await hashOf(fd, entry, heard)) !== entry.sha256)
        return false;
      finishFile(fd, entry, entry.size ?? 0, owner);
      return true;
    });
  }

  close(): void {
    if (this.open) closeSync(this.open.fd);
    this.open = undefined;
  }

  /** Opens a file that was created. Another program may have replaced it, even with a hard link to a foreign file. */
  private reopen(path: TreePath, inode: string, { directory, name }: NewName): number {
    if (this.open?.path === path) return this.open.fd;
    this.close();
    const fd = directory.openFile(name, true);
    const stat = fstatSync(fd, { bigint: true });
    const isOwn = stat.isFile() && stat.nlink === 1n && (!this.hasInodes || String(stat.ino) === inode);
    if (!isOwn) {
      closeSync(fd);
      throw Object.assign(new Error('the file was replaced'), { code: 'EEXIST' });
    }
    this.open = { path, fd };
    return fd;
  }

  /** Returns the hash to update with a part: that of its file, if all parts before it were hashed too. */
  private beginHash({ path, number, sparse }: PartTask): Hash {
    // The hash of a file with holes covers their places as well, which only its entry has.
    if (number === 0 && !sparse) this.running = { path, hash: createHash('sha256'), next: 0 };
    if (this.running?.path === path && this.running.next === number) return this.running.hash;
    this.running = undefined;
    return createHash('sha256');
  }

  /** Returns whether a part has the hash of its task, as far as that is known now. */
  private endHash({ inode, of, sha256 }: PartTask): boolean {
    const { running } = this;
    if (!running) return this.hashing.digest('hex') === sha256;
    running.next++;
    if (running.next < of) return true;
    this.hashed.add(`${inode} ${running.hash.digest('hex')}`);
    this.running = undefined;
    return true;
  }
}

/** Returns the hash of a file's data, as an index has it. */
async function hashOf(fd: number, { size = 0, ranges }: IndexEntry, heard: () => void): Promise<string> {
  const hashing = createHash('sha256');
  for (const { offset, length } of pairs(ranges ?? [0, size])) {
    for await (const bytes of readRangeOf(fd, offset, length)) {
      hashing.update(bytes);
      heard();
    }
  }
  if (ranges) hashing.update(rangesText(ranges));
  return hashing.digest('hex');
}
