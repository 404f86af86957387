import { createReadStream } from 'node:fs';
import type { DataRanges } from '../filesystem/data-ranges.ts';
import type { FileStat } from '../filesystem/file-stat.ts';
import { decodeIndexEntry, type IndexEntry } from '../filesystem/index-file.ts';
import { decodePart, isPartLine } from '../filesystem/index-part.ts';
import { PACK_KEY, readLines, valueAfter } from '../filesystem/read-index.ts';
import type { ContentTable } from '../known/content-table.ts';
import type { FactKind } from '../known/fact.ts';
import { HashTable } from '../known/hash-table.ts';
import { LineFile, type LineRange, type Lines } from './line-log.ts';

/** The place of stored content. */
export interface Placed {
  pack: string;
  entry: string;
}

/** Content that may be stored already. */
interface Wanted {
  sha256: string;
  /** bytes */
  size: number;
}

/** The part of an index line that describes content. */
export interface Content extends Wanted, Partial<Placed> {
  /** only if the file has holes and is in parts */
  ranges?: DataRanges;
  /** the lines of the parts of a large file */
  parts?: PartLines;
  sqlite?: string;
}

/** The content of a file in the last snapshot, which was still its content when it had `stat`. */
export interface Former {
  content: Content;
  stat: FileStat;
}

/** The lines of the parts of one file. */
export interface PartLines extends LineRange {
  count: number;
}

/** Where to find the lines of this run, and which packs may be used. */
interface KnownOptions {
  /** the index being written */
  current: Lines;
  /** the lines of the parts that this run has added */
  parts: Lines;
  /** returns whether a pack, given by ID, is complete and at the destination */
  usable: (pack: string) => boolean;
  /** contents of all kept snapshots */
  table?: ContentTable | undefined;
}

/**
 * Finds content that is stored already, in the previous index and in the one being written: whole files, and parts of
 * large files. Content of a file that has only moved is found here, and not stored again.
 */
export class KnownContents {
  /** even values are offsets in the previous index, odd values in the current one; both are doubled */
  private readonly files = new HashTable();
  /** the same, with odd values for offsets in the parts of this run */
  private readonly parts = new HashTable();
  private readonly options: KnownOptions;
  private previous: LineFile | undefined;

  constructor(options: KnownOptions) {
    this.options = options;
  }

  /** Reads the previous index once, without parsing its lines. */
  async loadPrevious(path: string): Promise<void> {
    this.previous = await LineFile.open(path);
    let offset = 0;
    for await (const line of readLines(createReadStream(path, { highWaterMark: 256 * 1024 }))) {
      const at = offset;
      offset += line.length + 1;
      const sha256 = valueAfter(line, SHA_KEY, 64);
      const pack = valueAfter(line, PACK_KEY, 32);
      if (sha256?.length !== 64 || pack === undefined || !this.options.usable(pack)) continue;
      (isPartLine(line) ? this.parts : this.files).set(sha256, at * 2);
    }
  }

  /** Adds a line of the current index. */
  add(entry: IndexEntry, offset: number): void {
    if (entry.sha256 && entry.pack) this.files.set(entry.sha256, offset * 2 + 1);
  }

  /** Adds a part that this run has stored. `offset`: of its line. */
  addPart(sha256: string, offset: number): void {
    this.parts.set(sha256, offset * 2 + 1);
  }

  /** Returns where the content of a file is stored, checked against its index line. */
  async find(wanted: Wanted): Promise<Placed | undefined> {
    const line = await this.lineOf(this.files.get(wanted.sha256), this.options.current);
    return (line && this.placeIn(decodedBy(decodeIndexEntry, line), wanted)) ?? this.inTable('file', wanted);
  }

  /** Returns where a part is stored, checked against its line. */
  async findPart(wanted: Wanted): Promise<Placed | undefined> {
    const line = await this.lineOf(this.parts.get(wanted.sha256), this.options.parts);
    return (line && this.placeIn(decodedBy(decodePart, line), wanted)) ?? this.inTable('part', wanted);
  }

  async close(): Promise<void> {
    await this.previous?.close();
  }

  private inTable(kind: FactKind, wanted: Wanted): Placed | undefined {
    const found = this.options.table?.find({ kind, ...wanted });
    return found && this.placeIn(found, wanted);
  }

  private async lineOf(value: number | undefined, current: Lines): Promise<Buffer | undefined> {
    if (value === undefined) return undefined;
    return (value % 2 === 1 ? current : this.previous)?.lineAt(Math.floor(value / 2));
  }

  private placeIn(found: Partial<Wanted & Placed> | undefined, { sha256, size }: Wanted): Placed | undefined {
    const { pack, entry } = found ?? {};
    if (found?.sha256 !== sha256 || found.size !== size || pack === undefined || entry === undefined) return undefined;
    return this.options.usable(pack) ? { pack, entry } : undefined;
  }
}

/** Returns what a line says; nothing if it is damaged. */
function decodedBy<T extends Partial<Wanted & Placed>>(decode: (line: Buffer) => T, line: Buffer): T | undefined {
  try {
    return decode(line);
  } catch {
    return undefined;
  }
}

// Inside a JSON string the quotes would be escaped, so these bytes can only be keys.
const SHA_KEY = Buffer.from('"sha256":"');
