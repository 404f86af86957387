import { IndexWriter } from './index-writer.ts';
import { LineLog } from './line-log.ts';
import { PreviousIndex } from './previous-index.ts';
import type { StoreTreeOptions } from './stored-tree.ts';

type FileOptions = Pick<StoreTreeOptions, 'project' | 'source' | 'destination' | 'previous' | 'known' | 'indexPath'>;

/** The files of the spool that are open while a tree is stored. */
export class StoringFiles {
  readonly previous: PreviousIndex;
  readonly index: IndexWriter;
  /** lines of parts, before they become part of the index */
  readonly parts: LineLog;

  private constructor(previous: PreviousIndex, index: IndexWriter, parts: LineLog) {
    this.previous = previous;
    this.index = index;
    this.parts = parts;
  }

  /** Opens the files. If one cannot be opened, the others are closed. */
  static async open(options: FileOptions): Promise<StoringFiles> {
    const previous = await PreviousIndex.open(options, packPrefix(options));
    let index: IndexWriter | undefined;
    try {
      index = await IndexWriter.create(options.indexPath);
      return new StoringFiles(previous, index, await LineLog.create(`${options.indexPath}.parts`));
    } catch (error) {
      await index?.abort();
      await previous.close();
      throw error;
    }
  }

  /** Closes the files. An index that is not finished is removed. */
  async abort(): Promise<void> {
    await this.index.abort();
    await this.parts.remove();
    await this.previous.close();
  }
}

/** Returns the prefix of the pack names of a source. */
export function packPrefix({ project, source }: Pick<StoreTreeOptions, 'project' | 'source'>): string {
  return `${project}/packs/${source}/`;
}
