import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { ObjectRef } from '../../store/objects/manifest.ts';
import { fetchFile } from '../../store/objects/objects.ts';
import { parseLsn, parseSegmentName, segmentAt, segmentName, startOf } from '../../store/wal/names.ts';
import type { PartialSegment } from '../../store/wal/page.ts';
import { readWalLogs, type WalLog, type WalRepository } from '../../store/wal/read-log.ts';
import { RecordScanner } from '../../store/wal/records.ts';
import { parseHistoryName, timelineAt } from '../../store/wal/timelines.ts';
import type { Window } from '../../store/wal/windows.ts';

/** Segments that are fetched before they are asked for. */
const AHEAD = 4;
/** Segments that stay after a later one was asked for: recovery may read one twice. */
const BEHIND = 2;
const LOOK_MS = 25;
/** The segments at the end of the WAL in which its last record is looked for. */
const MAX_LAST = 4;

/** A directory that a recovering server shares with the agent. */
export interface WalExchange {
  /** holds fetched files, readable for everybody; `<name>.none` if there is no such file */
  files: string;
  /** the server's restore_command creates an empty file here for each file that it wants */
  wanted: string;
}

/**
 * Gives stored WAL to a recovering server, which asks for one file after the other. At most a few segments are on the
 * disk at a time.
 */
export class WalServer {
  /** number of segments that the server has asked for and got */
  served = 0;
  private readonly repository: WalRepository;
  private log: WalLog;
  private readonly exchange: WalExchange;
  private readonly fetching = new Map<string, Promise<void>>();

  constructor(repository: WalRepository, log: WalLog, exchange: WalExchange) {
    this.repository = repository;
    this.log = log;
    this.exchange = exchange;
  }

  /** Creates the directories. */
  async open(): Promise<void> {
    const { files, wanted } = this.exchange;
    await mkdir(files, { recursive: true });
    await mkdir(wanted, { recursive: true });
    await chmod(files, 0o755);
    // The server runs as a user of its image.
    await chmod(wanted, 0o777);
  }

  /** Answers requests until the signal aborts. @throws what fetching a file throws, except when it is not stored */
  async serve(signal: AbortSignal): Promise<void> {
    const { wanted } = this.exchange;
    while (!signal.aborted) {
      const names = await readdir(wanted);
      for (const name of names) {
        await this.provide(name, signal);
        await rm(path.join(wanted, name), { force: true, recursive: true });
      }
      if (names.length === 0) await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
    await Promise.allSettled(this.fetching.values());
  }

  private async provide(name: string, signal: AbortSignal): Promise<void> {
    const { segmentSize } = this.log.wal;
    const segment = parseSegmentName(name, segmentSize);
    // The image is untrusted, and might ask for anything.
    if (!segment && parseHistoryName(name) === undefined) return;
    if (!this.isStored(name)) return writeFile(path.join(this.exchange.files, `${name}.none`), '', { mode: 0o644 });
    await this.fetch(name, signal);
    if (!segment) return;
    this.served++;
    for (let next = 1; next <= AHEAD; next++) {
      const ahead = segmentName({ ...segment, number: segment.number + next }, segmentSize);
      if (this.isStored(ahead)) this.fetch(ahead, signal).catch(() => undefined);
    }
    await this.removeBefore(segment.number - BEHIND);
  }

  /**
   * Returns the position of the last record before the end of a window of which every byte is stored; undefined if
   * none of the last segments says it.
   */
  async lastRecord({ toLsn, timeline }: Pick<Window, 'toLsn' | 'timeline'>, signal: AbortSignal) {
    const { segmentSize, histories } = this.log.wal;
    const end = parseLsn(toLsn);
    const history = { timeline, lineage: histories.get(timeline) ?? [] };
    const last = segmentAt(end - 1n, segmentSize);
    // A record can be longer than a segment.
    for (let first = last; first > last - MAX_LAST && first >= 0; first--) {
      const records = new RecordScanner(startOf(first, segmentSize), () => undefined);
      for (let number = first; number <= last; number++) {
        const name = segmentName({ timeline: timelineAt(number, history, segmentSize), number }, segmentSize);
        if (!this.isStored(name)) return undefined;
        await this.fetch(name, signal);
        const left = Number(end - startOf(number, segmentSize));
        const content = createReadStream(path.join(this.exchange.files, name), { end: left - 1 });
        for await (const chunk of content) records.add(chunk as Buffer);
      }
      records.end();
      if (records.last !== undefined) return records.last;
    }
    return undefined;
  }

  private isStored(name: string): boolean {
    const { segments, histories, partials } = this.log;
    return segments.has(name) || histories.has(name) || partials.has(name);
  }

  private fetch(name: string, signal: AbortSignal): Promise<void> {
    const known = this.fetching.get(name);
    if (known) return known;
    const fetching = this.fetchNow(name, signal);
    this.fetching.set(name, fetching);
    // A failed one is tried again when the server asks for it.
    fetching.catch(() => this.fetching.delete(name));
    return fetching;
  }

  private async fetchNow(name: string, signal: AbortSignal): Promise<void> {
    const partial = path.join(this.exchange.files, `.${name}`);
    try {
      await this.fetchTo(partial, name, signal);
    } catch (error) {
      if (!hasCode(error, 'OBJECT_MISSING') || !this.log.partials.has(name)) throw error;
      // The receiver has stored more of the segment since the log was read, and has removed these parts.
      const logs = await readWalLogs(this.repository, this.log.place.source, signal);
      const { place, wal } = this.log;
      // Another history of the server has other WAL under the same names.
      const now = logs.find((one) => one.place.systemId === place.systemId && one.wal.since === wal.since);
      if (!now) throw error;
      this.log = now;
      if (!this.isStored(name)) throw error;
      await this.fetchTo(partial, name, signal);
    }
    await chmod(partial, 0o644);
    await rename(partial, path.join(this.exchange.files, name));
  }

  private async fetchTo(file: string, name: string, signal: AbortSignal): Promise<void> {
    const { segments, histories, partials, wal } = this.log;
    const stored = segments.get(name) ?? histories.get(name);
    const beginning = partials.get(name);
    await rm(file, { force: true });
    if (stored) await this.fetchObject(stored, file, signal, wal.segmentSize);
    else if (beginning) await this.assemble(beginning, file, signal);
  }

  private fetchObject(ref: ObjectRef, file: string, signal: AbortSignal, maxSize: number): Promise<void> {
    const { destination, keys } = this.repository;
    return fetchFile(destination, ref, file, { keys, signal, maxSize });
  }

  /** Joins the parts of an incomplete segment. The rest of it is zeros, as in one that the server has not filled. */
  private async assemble({ name, parts }: PartialSegment, file: string, signal: AbortSignal): Promise<void> {
    const { segmentSize } = this.log.wal;
    let end = 0;
    await writeFile(file, '', { mode: 0o600 });
    for (const { from, to, ...ref } of parts) {
      if (from !== end) throw new LifeboatError('OBJECT_DAMAGED', `the parts of segment ${name} do not fit together`);
      const piece = `${file}.part`;
      await rm(piece, { force: true });
      await this.fetchObject(ref, piece, signal, to - from);
      await pipeline(createReadStream(piece), createWriteStream(file, { flags: 'a' }));
      await rm(piece);
      end = to;
    }
    await pipeline(zeros(segmentSize - end), createWriteStream(file, { flags: 'a' }));
  }

  private async removeBefore(number: number): Promise<void> {
    const { segmentSize } = this.log.wal;
    for (const name of await readdir(this.exchange.files)) {
      const at = parseSegmentName(name, segmentSize);
      if (!at || at.number >= number) continue;
      await rm(path.join(this.exchange.files, name), { force: true });
      this.fetching.delete(name);
    }
  }
}

async function* zeros(count: number): AsyncGenerator<Buffer> {
  const block = Buffer.alloc(256 * 1024);
  for (let left = count; left > 0; left -= block.length) yield block.subarray(0, Math.min(left, block.length));
}
