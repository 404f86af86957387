import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { LifeboatError } from '../../base/errors.ts';
import type { ObjectRef } from '../../store/objects/manifest.ts';
import { fetchFile } from '../../store/objects/objects.ts';
import { parseSegmentName, segmentName } from '../../store/wal/names.ts';
import type { PartialSegment } from '../../store/wal/page.ts';
import type { WalLog, WalRepository } from '../../store/wal/read-log.ts';
import { parseHistoryName } from '../../store/wal/timelines.ts';

/** Segments that are fetched before they are asked for. */
const AHEAD = 4;
/** Segments that stay after a later one was asked for: recovery may read one twice. */
const BEHIND = 2;
const LOOK_MS = 25;

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
  private readonly log: WalLog;
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
    const { segments, histories, partials, wal } = this.log;
    const beginning = partials.get(name);
    const partial = path.join(this.exchange.files, `.${name}`);
    await rm(partial, { force: true });
    const stored = segments.get(name) ?? histories.get(name);
    if (stored) await this.fetchObject(stored, partial, signal, wal.segmentSize);
    else if (beginning) await this.assemble(beginning, partial, signal);
    await chmod(partial, 0o644);
    await rename(partial, path.join(this.exchange.files, name));
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
