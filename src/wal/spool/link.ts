import { readdirSync } from 'node:fs';
import { parseSegmentName, segmentName, startOf } from '../../store/wal/names.ts';
import { linkOf, PAGE, RecordScanner } from '../../store/wal/records.ts';
import { readPartial } from './received-files.ts';

/**
 * The place where a connection goes on after the last complete segment of an earlier one. Nobody receives that segment
 * again, so its bytes prove nothing about the server that is there now. The first record of the next segment does: it
 * names the position of the record before it.
 */
export class Link {
  private readonly directory: string;
  private readonly size: number;
  /** the last complete segment; undefined: none, or the next one follows it, or nobody knows */
  private kept: string | undefined;
  /** position of its last record */
  private last: bigint | undefined;

  /** Call it before more is received. `size`: of a segment, bytes */
  constructor(directory: string, size: number) {
    this.directory = directory;
    this.size = size;
    const complete = readdirSync(directory).filter((name) => parseSegmentName(name, size) !== undefined);
    this.kept = complete.sort().at(-1);
  }

  /** Reads the last complete segment, once. Call it before that one is removed. */
  async look(): Promise<void> {
    const { directory, size, kept } = this;
    const at = kept === undefined ? undefined : parseSegmentName(kept, size);
    if (kept === undefined || !at || this.last !== undefined) return;
    const scanner = new RecordScanner(startOf(at.number, size), () => undefined);
    for await (const chunk of (await readPartial(directory, kept, { size, range: { from: 0, to: size } })) ?? [])
      scanner.add(chunk as Buffer);
    this.last = scanner.end() ?? scanner.last;
    if (this.last === undefined) this.kept = undefined;
  }

  /** Returns whether a segment, of which so many bytes are there, contradicts the last complete one. */
  async isBroken(name: string, received: number): Promise<boolean> {
    const { directory, size, kept, last } = this;
    const at = kept === undefined ? undefined : parseSegmentName(kept, size);
    if (!at || last === undefined || name !== segmentName({ ...at, number: at.number + 1 }, size)) return false;
    const to = Math.min(received, PAGE);
    const first: Buffer[] = [];
    for await (const chunk of (await readPartial(directory, name, { size, range: { from: 0, to } })) ?? [])
      first.push(chunk as Buffer);
    const link = linkOf(Buffer.concat(first));
    if (link === undefined ? to === PAGE : link === last) this.kept = undefined;
    return link !== undefined && link !== last;
  }
}
