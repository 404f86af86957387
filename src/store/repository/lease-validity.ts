import { LifeboatError } from '../../base/errors.ts';

/** Aborts the holder's requests when its lease is lost or was not extended in time. */
export class LeaseValidity {
  private readonly lengthMs: number;
  private controller = new AbortController();
  private timer: NodeJS.Timeout | undefined;

  /** @param lengthMs how long a lease lasts, milliseconds */
  constructor(lengthMs: number) {
    this.lengthMs = lengthMs;
  }

  /** Restarts the lease's time after a successful fence. An expired lease that nobody took over becomes valid again. */
  extend(): AbortSignal {
    this.clear();
    if (this.controller.signal.aborted) this.controller = new AbortController();
    this.timer = setTimeout(() => this.end(ranOut()), this.lengthMs);
    this.timer.unref();
    return this.controller.signal;
  }

  end(why: LifeboatError): void {
    this.clear();
    this.controller.abort(why);
  }

  clear(): void {
    clearTimeout(this.timer);
  }
}

function ranOut(): LifeboatError {
  return new LifeboatError('LEASE_LOST', 'the lease of the repository expired and could not be extended', {
    hint: 'Check the disk, server or network of the destination, then run the command again.',
  });
}
