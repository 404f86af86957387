import { LifeboatError } from '../../base/errors.ts';
import { LineBuffer } from '../../docker/lines.ts';
import { formatLsn, parseLsn } from '../../store/wal/names.ts';

/** The end of a recovery. */
export interface Recovered {
  /** `target`: before the first transaction after the target; `end`: at the end of the WAL */
  at: 'target' | 'end';
  /** the server's words about the place at which it stopped */
  stopped?: string;
  /** commit time of the last transaction that was recovered, as the server prints it */
  lastCommit?: string;
}

const ENDED_EARLY = /recovery ended before configured recovery target was reached/;

/** The messages of a recovering server. */
export class Messages {
  readonly ready: Promise<void>;
  private becomeReady: () => void = () => undefined;
  private readonly lines: LineBuffer;
  private readonly last: string[] = [];
  private readonly found: Omit<Recovered, 'at'> = {};
  /** the position of the last record that was replayed */
  private redone: string | undefined;

  constructor(onLine: (line: string) => void) {
    this.ready = new Promise((resolve) => {
      this.becomeReady = resolve;
    });
    this.lines = new LineBuffer();
    this.onLine = onLine;
  }

  private readonly onLine: (line: string) => void;

  add(chunk: Buffer): void {
    for (const line of this.lines.split(chunk)) this.read(line);
  }

  /** @throws PG_RESTORE_FAILED for a server that ended by itself, unless it only lacked WAL for its target */
  outcome(isReady: boolean): Recovered | 'ended early' {
    if (!isReady && this.last.some((line) => ENDED_EARLY.test(line))) return 'ended early';
    if (!isReady) throw this.failure('ended before the recovery was complete');
    return { at: this.found.stopped === undefined ? 'end' : 'target', ...this.found };
  }

  /**
   * Refuses a recovery that was to replay all of the stored WAL and stopped before it: a record was damaged.
   *
   * @param last the position of the last record of the stored WAL that is whole; undefined if that is unknown
   * @param end the end of the stored WAL. It may be inside a record, or right after a segment that holds little
   * @throws PG_RESTORE_FAILED
   */
  refuseShort(last: bigint | undefined, end: string, segmentSize: number): void {
    const needed = last ?? parseLsn(end) - 2n * BigInt(segmentSize);
    if (this.redone === undefined || parseLsn(this.redone) >= needed) return;
    const to = last === undefined ? end : formatLsn(last);
    throw new LifeboatError('PG_RESTORE_FAILED', `the server replayed the WAL to ${this.redone}, and not to ${to}`, {
      hint: 'Run `lifeboat check --read-data` to find damaged WAL. Recover to a time before that position instead.',
    });
  }

  failure(what: string): LifeboatError {
    const words = this.last.filter((line) => /FATAL|PANIC|ERROR|HINT|DETAIL/.test(line)).slice(-4);
    return new LifeboatError(
      'PG_RESTORE_FAILED',
      `the recovering server ${what}: ${words.join(' · ') || 'it says nothing'}`,
    );
  }

  private read(line: string): void {
    this.last.push(line.slice(0, 500));
    if (this.last.length > 50) this.last.shift();
    this.onLine(line);
    const stopped = /recovery stopping (.*)$/.exec(line)?.[1];
    if (stopped !== undefined) this.found.stopped = stopped;
    this.redone = /redo done at ([0-9A-F]+\/[0-9A-F]+)/.exec(line)?.[1] ?? this.redone;
    const commit = /last completed transaction was at log time (.*)$/.exec(line)?.[1];
    if (commit !== undefined) this.found.lastCommit = commit;
    if (/database system is ready to accept connections/.test(line)) this.becomeReady();
  }
}
