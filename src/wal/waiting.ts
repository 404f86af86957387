import { open } from 'node:fs/promises';
import path from 'node:path';
import { unlessAborted } from '../base/abort.ts';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import type { SlotState } from '../sources/postgres/wal/slot.ts';
import { isSegmentSize, parseSegmentName, segmentAt } from '../store/wal/names.ts';
import { WalWriter } from '../store/wal/write-log.ts';
import { type ReceiverDeps, tell } from './receiver-deps.ts';
import type { ReceiverStatus } from './receiver-status.ts';
import { Shipping } from './shipping.ts';
import { setAside } from './spool/aside.ts';
import { empty, listSegments, namesOf } from './spool/received-files.ts';
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

/** Returns the servers that wrote the received WAL in a directory. */
export async function writersOf(directory: string): Promise<Writer[]> {
  const found = new Map<string, Writer>();
  for (const name of await listSegments(directory)) {
    const writer = await readWriter(path.join(directory, name));
    if (writer) found.set(JSON.stringify(writer), writer);
  }
  return [...found.values()];
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

interface StoreOptions {
  /** the server is gone: another log begins if the newest page of its own cannot be used */
  isFormer?: boolean;
  /** throws if the WAL must not be stored; `size`: of a segment, bytes */
  check?(log: WalWriter, size: number): Promise<void>;
}

interface WaitingOptions {
  deps: Pick<ReceiverDeps, 'project' | 'repository' | 'home' | 'now' | 'feed' | 'log' | 'alarm'>;
  /** name of the server's source */
  source: string;
  directory: string;
  storing: Pick<Storing, 'watched'>;
  status: Pick<ReceiverStatus, 'isOf'>;
  /** nothing is stored if another agent has written the log in this time, milliseconds; absent: that does not matter */
  quietMs?: number;
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
    const writers = await writersOf(directory);
    const isOwn = writers.length === 1 ? writers[0]?.systemId === systemId : writers.length === 0;
    if (isOwn && (writers.length === 1 || status.isOf(systemId))) return;
    await this.leave(signal, { isFormer: true });
  }

  /**
   * Drops all received WAL, of a source that nobody receives any more, or of data that a recovery has replaced. Stores
   * it first. Throws like {@link leaveFormer}.
   *
   * @returns whether it is stored; if not, it is set aside
   */
  async leaveAll(signal: AbortSignal): Promise<boolean> {
    return this.leave(signal, { isFormer: true });
  }

  /**
   * Stores what waits while the server does not answer, once. Never rejects. Work that does not end when it is aborted
   * is left alone.
   */
  async storeOnce(signal: AbortSignal): Promise<void> {
    const { deps, source } = this.options;
    if (this.isDone) return;
    try {
      this.isDone = (await unlessAborted(this.storeRest(signal), signal)) === undefined;
    } catch (error) {
      const info = { source, ...errorInfo(error) };
      if (!signal.aborted) deps.log.warn('received WAL waits in the spool: it could not be stored', info);
    }
  }

  /**
   * Drops received WAL after the server went back to older data. Of the former history, nobody can receive it again, so
   * it is stored first. It is set aside if it may be of the history that the server writes now.
   *
   * @param present the position of the server; throws like {@link leaveFormer}
   */
  async leaveDiverged(present: SlotState, signal: AbortSignal): Promise<void> {
    const { directory } = this.options;
    const check: StoreOptions['check'] = (log, size) => refuseUnclear(log, { directory, size }, present);
    await this.leave(signal, { check });
  }

  /** @returns whether everything is stored */
  private async leave(signal: AbortSignal, options: StoreOptions): Promise<boolean> {
    const left = await this.storeAll(signal, options).catch((error: unknown) => {
      // It is no trouble of the server that is there now.
      if (!hasCode(error, 'WAL_DIVERGED')) throw error;
      return error;
    });
    // Work that was left alone may end at any time: the files are those of another connection then.
    signal.throwIfAborted();
    if (left) await this.setAside(left);
    await empty(this.options.directory);
    return left === undefined;
  }

  private async setAside(error: LifeboatError): Promise<void> {
    const { deps, source, directory } = this.options;
    const aside = await setAside(directory, deps.now());
    if (aside === undefined) return;
    const message = `received WAL cannot be stored, so Lifeboat sets it aside: ${error.message}`;
    const hint = `It is in ${aside} in the Lifeboat container. Nothing that was stored is lost.`;
    tell(deps, source, new LifeboatError('WAL_DIVERGED', message, { hint, cause: error }));
  }

  /**
   * Stores everything that was received, if it is of one server, and if the newest page of its log can be used. What
   * follows the creation of a tablespace waits for its server. Throws like {@link Shipping.shipRest}.
   *
   * @returns why it is not stored; undefined if it is
   */
  async storeRest(signal: AbortSignal): Promise<LifeboatError | undefined> {
    const left = await this.storeAll(signal);
    return hasCode(left, 'PG_REPLICATION') ? undefined : left;
  }

  /** @returns why not everything is stored; undefined if it is */
  private async storeAll(signal: AbortSignal, options?: StoreOptions): Promise<LifeboatError | undefined> {
    const writers = await writersOf(this.options.directory);
    const unclear = await this.whyUnclear(writers);
    const [writer] = writers;
    return unclear || !writer ? unclear : this.store(writer, signal, options);
  }

  /** Returns WAL_DIVERGED if nobody knows which server the received WAL is of; undefined also if there is none. */
  private async whyUnclear({ length: count }: readonly Writer[]): Promise<LifeboatError | undefined> {
    if (count > 1) return new LifeboatError('WAL_DIVERGED', 'it is of several servers');
    // The program creates a file of zeros before it receives something.
    const isEmpty = (await listSegments(this.options.directory)).every((name) => name.endsWith('.partial'));
    return count === 1 || isEmpty ? undefined : new LifeboatError('WAL_DIVERGED', 'nobody knows which server it is of');
  }

  /** @throws LOCKED if another agent receives the WAL: it would take this one for a second receiver, and stop */
  private refuseOther({ home, at }: WalWriter, own: string): void {
    const { deps, source, quietMs } = this.options;
    if (quietMs === undefined || home === undefined || home === own) return;
    if (at === undefined || deps.now().getTime() - Date.parse(at) >= quietMs) return;
    throw new LifeboatError('LOCKED', `another Lifeboat receives the WAL of ${source}`, {
      hint: 'What waits here is stored once the other one has stored nothing for an hour.',
    });
  }

  /** @returns why not everything is stored; undefined if it is */
  private store(
    { systemId, segmentSize }: Writer,
    signal: AbortSignal,
    { isFormer = false, check }: StoreOptions = {},
  ): Promise<LifeboatError | undefined> {
    const { deps, source, directory, storing } = this.options;
    const { now } = deps;
    const place = { project: deps.project, source, systemId };
    return storing.watched(async (until, alive) => {
      const options = { place, segmentSize, home: await deps.home(), now, appended: deps.feed };
      const writer = await WalWriter.open(await deps.repository(), options, until);
      this.refuseOther(writer, options.home);
      await check?.(writer, segmentSize);
      // Another history begins then. Only the connected receiver knows where, and tells people.
      if (writer.unusable && !isFormer) return writer.unusable;
      const onGap = (error: LifeboatError) => tell(deps, source, error);
      const shipping = new Shipping({ writer, directory, segmentSize, now, onGap });
      return shipping.shipRest(until, alive);
    }, signal);
  }
}

/**
 * Checks that received WAL is of the history that is stored, and not of the one that the server writes since it went
 * back: the server has not come that far. Shipping compares the segment in which the stored WAL ends.
 *
 * @throws WAL_DIVERGED
 */
async function refuseUnclear(
  { inventory, unusable, tail }: WalWriter,
  { directory, size }: { directory: string; size: number },
  { timeline, flushed }: SlotState,
): Promise<void> {
  const end = unusable ? undefined : inventory.endOf(timeline);
  for (const name of await namesOf(directory, size)) {
    const at = parseSegmentName(name, size);
    if (!at || at.timeline > timeline || inventory.has(name)) continue;
    const isBehind = at.timeline === timeline && end !== undefined && flushed < end;
    // Without a record of the last bytes, nobody can compare that segment either.
    const last = isBehind ? segmentAt(end, size) : 0;
    if (!isBehind || at.number < last || (at.number === last && tail === undefined))
      throw new LifeboatError('WAL_DIVERGED', `nobody knows which history of the server the segment ${name} is of`);
  }
}
