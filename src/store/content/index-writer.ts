import { rename } from 'node:fs/promises';
import { errorInfo, LifeboatError } from '../../base/errors.ts';
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry, MAX_LINE } from '../filesystem/index-file.ts';
import { decodePart, encodePart } from '../filesystem/index-part.ts';
import { LineLog, type LineRange, type Lines, readRange } from './line-log.ts';

/** The error for an entry whose line no restore could read. */
export class RefusedLine extends LifeboatError {}

/** Writes an index to a local file (mode 600), which gets its name only once it is complete. */
export class IndexWriter implements Lines {
  /** IDs of the packs that its lines name */
  readonly usedPacks = new Set<string>();
  private readonly path: string;
  private readonly log: LineLog;

  private constructor(path: string, log: LineLog) {
    this.path = path;
    this.log = log;
  }

  /** Creates the file, and replaces the partial file of an earlier run. */
  static async create(path: string): Promise<IndexWriter> {
    return new IndexWriter(path, await LineLog.create(`${path}.partial`));
  }

  /**
   * Adds a line and returns its offset. Call {@link flush} when {@link full}.
   *
   * @throws RefusedLine if the line cannot be read back: one such line would make the whole index unreadable
   */
  add(entry: IndexEntry): number {
    const line = encodeIndexEntry(entry);
    const bytes = Buffer.byteLength(line);
    checkLine(line, bytes);
    if (entry.pack !== undefined) this.usedPacks.add(entry.pack);
    return this.log.add(line, bytes);
  }

  /** Adds the lines of the parts of the last file, if it has parts. */
  async addParts(range: LineRange | undefined): Promise<void> {
    if (!range) return;
    for await (const line of readRange(range)) {
      // Written anew, like the line of a file: a forged line may be read in two ways, if it has a key twice.
      const part = decodePart(line);
      const text = encodePart(part);
      this.usedPacks.add(part.pack);
      this.log.add(text, Buffer.byteLength(text));
      if (this.log.full) await this.log.flush();
    }
  }

  /** Returns the entry whose line begins at an offset, and the offset after that line. */
  async entryAt(offset: number): Promise<{ entry: IndexEntry; end: number }> {
    const line = await this.log.lineAt(offset);
    if (!line) throw new LifeboatError('INTERNAL', 'the index being written cannot be read');
    return { entry: decodeIndexEntry(line), end: offset + line.length + 1 };
  }

  /** Adds the lines of `count` parts again, which are in the index already, from an offset on. */
  async repeatParts(offset: number, count = 0): Promise<void> {
    for (let i = 0, at = offset; i < count; i++) {
      const line = await this.log.lineAt(at);
      if (!line) throw new LifeboatError('INTERNAL', 'the index being written cannot be read');
      at += line.length + 1;
      this.log.add(`${line.toString('utf8')}\n`, line.length + 1);
      if (this.log.full) await this.log.flush();
    }
  }

  /** True if enough lines are pending for a write. */
  get full(): boolean {
    return this.log.full;
  }

  flush(): Promise<void> {
    return this.log.flush();
  }

  lineAt(offset: number): Promise<Buffer | undefined> {
    return this.log.lineAt(offset);
  }

  /** Writes the remaining lines, and gives the file its name. */
  async finish(): Promise<void> {
    await this.log.finish();
    await rename(this.log.path, this.path);
  }

  /** Removes the partial file. */
  abort(): Promise<void> {
    return this.log.remove();
  }
}

function checkLine(line: string, bytes: number): void {
  try {
    decodeIndexEntry(line.slice(0, -1));
  } catch (cause) {
    throw new RefusedLine('INTERNAL', `its line in the index cannot be read back: ${errorInfo(cause).message}`, {
      cause,
    });
  }
  if (bytes > MAX_LINE) throw new RefusedLine('INTERNAL', 'its line in the index is too long');
}
