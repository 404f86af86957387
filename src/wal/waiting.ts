import { mkdir, open, rename } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasCode, type LifeboatError } from '../base/errors.ts';
import { isSegmentSize } from '../store/wal/names.ts';
import { WalWriter } from '../store/wal/write-log.ts';
import type { ReceiverDeps } from './receiver-deps.ts';
import type { ReceiverStatus } from './receiver-status.ts';
import { Shipping } from './shipping.ts';
import { empty, listSegments } from './spool/received-files.ts';
import type { Storing } from './storing.ts';

/** WAL that waits in the spool while its server does not answer, or after another server took its place. */

/** The server that wrote a file of WAL. */
interface Writer {
  systemId: string;
  /** bytes */
  segmentSize: number;
}

/** In the header of the first page of each segment (Postgres source, xlog_internal.h, XLogLongPageHeaderData). */
const [INFO_AT, SYSTEM_AT, SIZE_AT, HEADER] = [2, 24, 32, 40];
const LONG_HEADER = 2;

/** Returns the server that wrote the received WAL in a directory. Undefined if there is none, or if it is not clear. */
async function writerOf(directory: string): Promise<Writer | undefined> {
  const found = new Map<string, Writer>();
  for (const name of await listSegments(directory)) {
    const writer = await readWriter(path.join(directory, name));
    if (writer) found.set(JSON.stringify(writer), writer);
  }
  return found.size === 1 ? [...found.values()][0] : undefined;
}

async function readWriter(file: string): Promise<Writer | undefined> {
  const handle = await open(file, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(HEADER), 0, HEADER, 0);
    if (bytesRead < HEADER || (buffer.readUInt16LE(INFO_AT) & LONG_HEADER) === 0) return undefined;
    const segmentSize = buffer.readUInt32LE(SIZE_AT);
    return isSegmentSize(segmentSize)
      ? { systemId: String(buffer.readBigUInt64LE(SYSTEM_AT)), segmentSize }
      : undefined;
  } finally {
    await handle.close();
  }
}

interface WaitingOptions {
  deps: Pick<ReceiverDeps, 'project' | 'repository' | 'home' | 'now' | 'feed' | 'log'>;
  /** name of the server's source */
  source: string;
  directory: string;
  storing: Pick<Storing, 'watched'>;
  status: Pick<ReceiverStatus, 'isOf' | 'tail'>;
}

/** The received WAL of one source that nobody receives now. */
export class Waiting {
  private readonly options: WaitingOptions;
  /** nothing was received since everything was stored */
  private isDone = false;

  constructor(options: WaitingOptions) {
    this.options = options;
  }

  /** Notes that WAL is received again. */
  begin(): void {
    this.isDone = false;
  }

  /**
   * Drops received WAL of another server than this one. Stores it first: it may be all that is left of that server.
   * WAL that contradicts what is stored of that server is set aside in the spool. Throws like
   * {@link Shipping.shipRest}, but not WAL_DIVERGED.
   */
  async leaveFormer(systemId: string, signal: AbortSignal): Promise<void> {
    const { directory, status } = this.options;
    const writer = await writerOf(directory);
    if (writer?.systemId === systemId || (!writer && status.isOf(systemId))) return;
    try {
      if (writer) await this.store(writer, signal, true);
    } catch (error) {
      // It is no trouble of the server that is there now.
      if (!hasCode(error, 'WAL_DIVERGED')) throw error;
      await this.setAside(error);
    }
    await empty(directory);
  }

  /** Stores what waits while the server does not answer, once. Never rejects. */
  async storeOnce(signal: AbortSignal): Promise<void> {
    const { deps, source } = this.options;
    if (this.isDone) return;
    try {
      await this.storeRest(signal);
      this.isDone = true;
    } catch (error) {
      const info = { source, ...errorInfo(error) };
      if (!signal.aborted) deps.log.warn('received WAL waits in the spool: it could not be stored', info);
    }
  }

  /** Moves files, and not their directory: a helper has that one mounted. */
  private async setAside(error: LifeboatError): Promise<void> {
    const { deps, source, directory } = this.options;
    const aside = `${directory}.aside`;
    await mkdir(aside, { recursive: true, mode: 0o700 });
    for (const name of await listSegments(directory)) await rename(path.join(directory, name), path.join(aside, name));
    const info = { source, directory: aside, ...errorInfo(error) };
    deps.log.warn('WAL of a former server contradicts what is stored of it, so Lifeboat sets it aside', info);
  }

  /**
   * Stores everything that was received, unless the newest page of the log is unusable. Throws like
   * {@link Shipping.shipRest}.
   */
  async storeRest(signal: AbortSignal): Promise<void> {
    const writer = await writerOf(this.options.directory);
    if (writer) await this.store(writer, signal);
  }

  private store({ systemId, segmentSize }: Writer, signal: AbortSignal, isFormer = false): Promise<void> {
    const { deps, source, directory, storing, status } = this.options;
    const { now } = deps;
    const place = { project: deps.project, source, systemId };
    const tail = status.isOf(systemId) ? status.tail : undefined;
    return storing.watched(async (until, alive) => {
      const options = { place, segmentSize, home: await deps.home(), now, appended: deps.feed };
      const writer = await WalWriter.open(await deps.repository(), options);
      // Another history begins then. Only the connected receiver knows where, and tells people.
      if (writer.unusable && !isFormer) return;
      const shipping = new Shipping({ writer, directory, segmentSize, now, tail, onGap: () => undefined });
      await shipping.shipRest(until, alive);
    }, signal);
  }
}
