import { lstatSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { parseLsn, parseSegmentName, startOf } from '../../store/wal/names.ts';
import { PAGE, RecordScanner } from '../../store/wal/records.ts';
import type { WalWriter } from '../../store/wal/write-log.ts';
import { readPartial } from './received-files.ts';

/** Of the records of tablespaces (Postgres source, rmgrlist.h, tablespace.h). */
const [TABLESPACES, CREATED] = [5, 0x00];
/** The upper half of `info` says what a record is (xlogrecord.h). */
const KIND = 0xf0;

/**
 * Looks for the creation of a tablespace in received WAL. No recovery gets past it, also if the tablespace was dropped
 * a moment later.
 */
export class TablespaceWatch {
  private readonly directory: string;
  private readonly size: number;
  private readonly begun: WalWriter['begun'];
  /** timelines that the server had left before its present history began */
  private readonly left: ReadonlySet<number | undefined>;
  /** what was read so far: of one segment, or of several that follow each other */
  private read: { name: string; timeline: number; to: bigint; scanner: RecordScanner } | undefined;
  private found: bigint | undefined;

  /**
   * @param size of a segment, bytes
   * @param writer of the present history of the server: base backups come after its beginning
   */
  constructor(directory: string, size: number, { begun, inventory }: Pick<WalWriter, 'begun' | 'inventory'>) {
    this.directory = directory;
    this.size = size;
    this.begun = begun;
    const isBefore = (name: string) =>
      begun !== undefined && changedAt(path.join(directory, name)) <= Date.parse(begun.at);
    // Once something of a history is stored, nothing waits that was received before it began.
    const waiting = inventory.isEmpty ? readdirSync(directory).filter(isBefore) : [];
    this.left = new Set(waiting.map((name) => parseSegmentName(name.slice(0, 24), size)?.timeline));
  }

  /**
   * Reads a segment up to an offset.
   *
   * @returns the offset at which a tablespace is created, bytes; undefined if none is
   */
  async find(name: string, to: number): Promise<number | undefined> {
    const { size } = this;
    const at = parseSegmentName(name, size);
    if (!at) return undefined;
    const start = startOf(at.number, size);
    const read = this.readUpTo(name, at.timeline, start, to);
    const whole = to - (to % PAGE);
    for await (const chunk of await this.open(name, Number(read.to - start), whole)) {
      read.scanner.add(chunk as Buffer);
      // A read may fail, and a file may not be filled yet.
      read.to += BigInt((chunk as Buffer).length);
    }
    // Pages count once they are whole. What is there of the last one is read again then.
    const last = this.scannerAt(start + BigInt(whole), at.timeline);
    for await (const chunk of await this.open(name, whole, to)) last.add(chunk as Buffer);
    last.end();
    if (this.found === undefined) return undefined;
    return Math.max(0, Number(this.found - start));
  }

  private readUpTo(name: string, timeline: number, start: bigint, to: number) {
    const { read } = this;
    const isNext =
      read?.timeline === timeline && (read.to === start || (read.name === name && read.to <= start + BigInt(to)));
    if (read && isNext) return Object.assign(read, { name });
    this.found = undefined;
    this.read = { name, timeline, to: start, scanner: this.scannerAt(start, timeline) };
    return this.read;
  }

  private async open(name: string, from: number, to: number): Promise<AsyncIterable<unknown>> {
    if (from >= to) return nothing();
    return (await readPartial(this.directory, name, { size: this.size, range: { from, to } })) ?? nothing();
  }

  private scannerAt(position: bigint, timeline: number): RecordScanner {
    const { begun, left } = this;
    const first = begun?.timeline === timeline ? parseLsn(begun.to) : 0n;
    const isBefore = begun && timeline !== begun.timeline && (timeline < begun.timeline || left.has(timeline));
    return new RecordScanner(
      position,
      ({ at, info }) => {
        if ((info & KIND) === CREATED && at >= first && !isBefore) this.found ??= at;
      },
      TABLESPACES,
    );
  }
}

/** Returns when a file was changed last, milliseconds; NaN if it is gone. */
function changedAt(file: string): number {
  return lstatSync(file, { throwIfNoEntry: false })?.mtimeMs ?? Number.NaN;
}

async function* nothing(): AsyncGenerator<never> {}
