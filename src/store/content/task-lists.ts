import { createReadStream } from 'node:fs';
import { appendFile, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry, readLines } from '../filesystem/index-file.ts';

const MEMORY_LIMIT = 16 * 1024 * 1024;

/**
 * Sorts index entries into named lists. Short lists stay in memory; long ones go to files in the spool. Each pack can
 * then be read once, however far apart its files are in the tree, and memory does not grow with the tree.
 */
export class TaskLists {
  private readonly spool: string;
  private directory: string | undefined;
  private readonly lists = new Map<string, { lines: string[]; file?: string }>();
  private size = 0;

  /** @param spool an existing directory */
  constructor(spool: string) {
    this.spool = spool;
  }

  /** Adds an entry to a list. Lists keep the order of their entries. */
  async add(list: string, entry: IndexEntry): Promise<void> {
    const line = encodeIndexEntry(entry);
    const found = this.lists.get(list);
    if (found) found.lines.push(line);
    else this.lists.set(list, { lines: [line] });
    this.size += line.length;
    if (this.size >= MEMORY_LIMIT) await this.flush();
  }

  /** Returns the names of the lists, in the order in which they were started. */
  names(): string[] {
    return [...this.lists.keys()];
  }

  async *read(list: string): AsyncGenerator<IndexEntry> {
    const found = this.lists.get(list);
    if (!found) return;
    if (found.file) for await (const line of readLines(createReadStream(found.file))) yield decodeIndexEntry(line);
    for (const line of found.lines) yield decodeIndexEntry(line);
  }

  async close(): Promise<void> {
    if (this.directory) await rm(this.directory, { recursive: true, force: true });
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
