import { createReadStream } from 'node:fs';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry } from '../filesystem/index-file.ts';
import type { IndexPart } from '../filesystem/index-part.ts';
import { readLines } from '../filesystem/read-index.ts';
import { FirstNames } from './first-names.ts';
import { linesBackwards } from './line-log.ts';

const MEMORY_LIMIT = 16 * 1024 * 1024;

/**
 * Sorts the lines of an index into named lists. Short lists stay in memory; long ones go to files in the spool. Each
 * pack can then be read once, however far apart its contents are in the tree, and memory does not grow with the tree.
 * `Part`: what a list of parts holds.
 */
export class TaskLists<Part extends IndexPart = IndexPart> {
  readonly firstNames: FirstNames;
  private readonly spool: string;
  private directory: string | undefined;
  private readonly lists = new Map<string, { lines: string[]; file?: string }>();
  private size = 0;

  /** @param spool an existing directory */
  constructor(spool: string) {
    this.spool = spool;
    this.firstNames = new FirstNames(spool);
  }

  /** Adds an entry to a list of entries. Lists keep the order in which things were added. */
  add(list: string, entry: IndexEntry): Promise<void> {
    return this.addLine(list, encodeIndexEntry(entry));
  }

  /** Adds a part to a list of parts. */
  addPart(list: string, part: Part): Promise<void> {
    return this.addLine(list, `${JSON.stringify(part)}\n`);
  }

  /** Returns the names of the lists, in the order in which they were started. */
  names(): string[] {
    return [...this.lists.keys()];
  }

  /** Yields the entries of a list. */
  async *read(list: string): AsyncGenerator<IndexEntry> {
    for await (const line of this.linesOf(list)) yield decodeIndexEntry(line);
  }

  /** Yields the entries of a list, from the last to the first. */
  async *readBackwards(list: string): AsyncGenerator<IndexEntry> {
    const found = this.lists.get(list);
    for (const line of found?.lines.toReversed() ?? []) yield decodeIndexEntry(line);
    if (found?.file) for await (const line of linesBackwards(found.file)) yield decodeIndexEntry(line);
  }

  /** Yields the parts of a list. */
  async *readParts(list: string): AsyncGenerator<Part> {
    for await (const line of this.linesOf(list)) yield JSON.parse(line) as Part;
  }

  async close(): Promise<void> {
    await this.firstNames.close();
    if (this.directory) await rm(this.directory, { recursive: true, force: true });
  }

  private async addLine(list: string, line: string): Promise<void> {
    const found = this.lists.get(list);
    if (found) found.lines.push(line);
    else this.lists.set(list, { lines: [line] });
    this.size += line.length;
    if (this.size >= MEMORY_LIMIT) await this.flush();
  }

  private async *linesOf(list: string): AsyncGenerator<string> {
    const found = this.lists.get(list);
    if (!found) return;
    if (found.file) for await (const line of readLines(createReadStream(found.file))) yield line.toString('utf8');
    yield* found.lines;
  }

  private async flush(): Promise<void> {
    this.directory ??= await mkdtemp(join(this.spool, 'extract-'));
    let number = 0;
    for (const list of this.lists.values()) {
      number++;
      if (list.lines.length === 0) continue;
      list.file ??= join(this.directory, String(number));
      await appendFile(list.file, list.lines.join(''), { mode: 0o600 });
      list.lines = [];
    }
    this.size = 0;
  }
}
