import { hasCode } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { isPlain } from '../seal/seal.ts';
import { PackReader } from './pack-reader.ts';
import type { PackRef } from './pack-stream.ts';
import { hasRoomFor } from './spool-room.ts';

interface PackSequenceOptions {
  destination: Destination;
  keys: SealKeys;
  /** directory for fetched packs */
  spool: string;
  signal?: AbortSignal | undefined;
}

/**
 * Opens packs one after the other. While the caller reads one, the next is fetched, if the spool has room for it. A
 * pack that is neither compressed nor encrypted is read at the destination, so it is not fetched.
 */
export class PackSequence {
  private readonly options: PackSequenceOptions;
  private readonly order: readonly PackRef[];
  private readonly ended = new AbortController();
  /** index of the pack that follows the one that was opened last */
  private next = 0;
  private ahead: { pack: PackRef; reader: Promise<PackReader> } | undefined;

  /** @param order the packs that the caller certainly opens, in that order */
  constructor(order: readonly PackRef[], options: PackSequenceOptions) {
    this.order = order;
    this.options = options;
  }

  /** Opens a pack. The caller closes it. Throws like {@link PackReader.open}. */
  async open(pack: PackRef): Promise<PackReader> {
    const reader =
      (await this.takeAhead(pack)) ?? (await PackReader.open(this.options.destination, pack, this.options));
    const at = this.order.indexOf(pack, this.next);
    if (at >= 0) this.next = at + 1;
    const next = this.order[this.next];
    if (at >= 0 && next) await this.fetchAhead(next, pack);
    return reader;
  }

  /** Ends the fetch in progress, and closes a pack that nobody opened. */
  async close(): Promise<void> {
    this.ended.abort();
    await this.dropAhead();
  }

  /** Resolves to the pack if it was fetched ahead. */
  private async takeAhead(pack: PackRef): Promise<PackReader | undefined> {
    const { ahead } = this;
    if (ahead?.pack !== pack) {
      await this.dropAhead();
      return undefined;
    }
    this.ahead = undefined;
    return ahead.reader.catch((error: unknown) => {
      // There is room now that the pack before it is closed.
      if (hasCode(error, 'SPOOL_FULL')) return undefined;
      throw error;
    });
  }

  /** @param present the pack that the caller reads, from which it may write as many bytes to the same disk */
  private async fetchAhead(pack: PackRef, present: PackRef): Promise<void> {
    if (isPlain(pack.key)) return;
    const { destination, spool, signal } = this.options;
    // A spool that cannot be inspected is reported by the step that needs it.
    if (!(await hasRoomFor(spool, pack.plainSize + present.plainSize).catch(() => false))) return;
    const either = signal ? AbortSignal.any([signal, this.ended.signal]) : this.ended.signal;
    const reader = PackReader.open(destination, pack, { ...this.options, signal: either });
    // Reported when the pack is opened.
    reader.catch(() => {});
    this.ahead = { pack, reader };
  }

  private async dropAhead(): Promise<void> {
    const { ahead } = this;
    this.ahead = undefined;
    await ahead?.reader.then(
      (reader) => reader.close(),
      () => {},
    );
  }
}
