import { LifeboatError } from '../../base/errors.ts';
import type { Directory } from '../filesystem/directory.ts';
import type { IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import { shortPath, type TreePath } from '../filesystem/path.ts';
import type { PackReader } from '../packs/pack-reader.ts';
import { FilesInParts, type PartTask } from './files-in-parts.ts';
import type { NewTree } from './new-tree.ts';
import type { TaskLists } from './task-lists.ts';

/** Files in parts, in the order in which they were created. The inode in their entries is that of the new file. */
export const LARGE = 'large';
/** Begins the names of lists of parts; the ID of their pack follows. */
const PARTS = 'parts ';

interface PartRestoringOptions {
  lists: TaskLists<PartTask>;
  made: NewTree;
  target: Directory;
  owner: boolean;
  /** called with the number of bytes that were written, or with 0 while a file is read */
  heard(bytes: number): void;
  signal: AbortSignal | undefined;
}

/** Returns the ID of the pack of a list of parts; undefined for any other list. */
export function packOfParts(list: string): string | undefined {
  return list.startsWith(PARTS) ? list.slice(PARTS.length) : undefined;
}

/** Sorts the parts of large files by pack, then restores them pack by pack. */
export class PartRestoring {
  private readonly options: PartRestoringOptions;
  private readonly files: FilesInParts;
  /** what every part of the file whose parts follow in the index has; absent: its parts are not needed */
  private current: Pick<PartTask, 'inode' | 'number' | 'of' | 'sparse'> | undefined;

  constructor(options: PartRestoringOptions) {
    this.options = options;
    this.files = new FilesInParts(options.made, options.target);
  }

  /** Creates a file. The calls of {@link add} that follow are for its parts. */
  async begin(entry: IndexEntry): Promise<void> {
    const inode = await this.files.create(entry);
    await this.options.lists.add(LARGE, { ...entry, ino: BigInt(inode) });
    this.current = { inode, number: 0, of: entry.parts ?? 0, sparse: entry.sparse === true };
  }

  /** Ignores the parts that follow, until {@link begin} is called. */
  endFile(): void {
    this.current = undefined;
  }

  /** True if the parts that follow are needed. */
  get isWanted(): boolean {
    return this.current !== undefined;
  }

  async add(part: IndexPart): Promise<void> {
    if (!this.current) return;
    await this.options.lists.addPart(PARTS + part.pack, { ...part, ...this.current });
    this.current = { ...this.current, number: this.current.number + 1 };
  }

  /**
   * Restores the parts of a list.
   *
   * @throws OBJECT_DAMAGED for other content than the index says
   */
  async restore(open: () => Promise<PackReader>, list: string): Promise<void> {
    const { lists, heard, signal } = this.options;
    const reader = await open();
    try {
      for await (const { content: part, at, bytes } of reader.stream(lists.readParts(list))) {
        signal?.throwIfAborted();
        if (!(await this.files.write(part, at, bytes))) throw wrongContent(part);
        heard(bytes.length);
      }
    } finally {
      await reader.close();
    }
  }

  /** Verifies a file, once all of its parts are restored. Throws OBJECT_DAMAGED. */
  async finish(entry: IndexEntry): Promise<void> {
    const { owner, heard } = this.options;
    const isWhole = await this.files.finish(entry, String(entry.ino), { owner, heard: () => heard(0) });
    if (!isWhole) throw wrongContent(entry);
  }

  close(): void {
    this.files.close();
  }
}

export function wrongContent({ path }: { path: TreePath }): LifeboatError {
  return new LifeboatError(
    'OBJECT_DAMAGED',
    `the stored content of ${shortPath(path)} is not the content that was backed up`,
  );
}
