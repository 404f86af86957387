import { aborted } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import type { CopyState } from '../run/state.ts';
import { patiently } from '../run/watchdog.ts';
import type { Lease } from '../store/repository/lease.ts';
import { leaseTokenAt } from '../store/repository/lease-row.ts';

/** The name of the destination in the error of a copy that is the destination. */
export const DESTINATION = 'the destination itself';

/** The location of a place's leases. */
interface At {
  destination: Destination;
  project: string;
}

/**
 * Detects places that are the same under two names, such as a directory mounted twice or a server with two addresses.
 * The retention under one name would remove snapshots that the other keeps, so nothing is removed under either. A lease
 * that was taken under one name is visible under the other.
 */
export class SamePlace {
  /** names of places, by the token of their lease */
  private readonly names = new Map<string, string>();
  private readonly others = new Map<string, string>();
  private readonly seen = new Set<string>();
  private readonly remembered = new Map<string, string>();
  private turn: Promise<unknown> = Promise.resolve();

  /** @param copies the states after the last run; its findings apply until both names were compared again */
  constructor(copies: Readonly<Record<string, CopyState>> = {}) {
    for (const [name, { sameAs }] of Object.entries(copies)) {
      if (sameAs !== DESTINATION && !(sameAs !== undefined && sameAs in copies)) continue;
      this.remembered.set(name, sameAs).set(sameAs, name);
    }
  }

  /** Adds a place. `name` is its name in errors. A lease without a token, of a run that needs none, adds nothing. */
  add(name: string, lease: Pick<Lease, 'token'> | undefined): void {
    if (lease?.token === undefined) return;
    this.names.set(lease.token, name);
    this.seen.add(name);
  }

  /**
   * Takes the lease of a place. Places take turns, so the second of two names finds the lease of the first. A place
   * that does not respond blocks the others until its `signal` aborts. `alive` is called while this place waits for
   * others.
   *
   * @throws DEST_FOREIGN if `name` is the same place as an earlier one, whose lease then stays unchanged; what `lease`
   * throws
   */
  take(
    name: string,
    at: At,
    lease: () => Promise<Lease>,
    { signal, alive }: { signal: AbortSignal; alive(): void },
  ): Promise<Lease> {
    const before = this.turn;
    const taken = patiently(before, alive).then(async () => {
      signal.throwIfAborted();
      await this.refuse(name, at);
      const held = await lease();
      // The next place has had its turn by now: this lease may have taken over that of another name.
      if (signal.aborted) await held.release();
      signal.throwIfAborted();
      // A full place has no room for a lease yet. The token of its last lease identifies it as well.
      this.add(name, { token: held.token ?? (await leaseTokenAt(at.destination, at.project)) });
      return held;
    });
    this.turn = before.then(() => Promise.race([taken.catch(() => undefined), aborted(signal)]));
    return taken;
  }

  /** Throws DEST_FOREIGN if `name` is the same place as another one, whether the other's lease is held or released. */
  async refuse(name: string, at: At): Promise<void> {
    if (this.names.size === 0) return;
    const token = await leaseTokenAt(at.destination, at.project);
    const other = token === undefined ? undefined : this.names.get(token);
    if (other === undefined || other === name) return;
    this.others.set(name, other).set(other, name);
    throw samePlace(name, other);
  }

  /** Returns another name of the same place, if one is known. */
  otherNameOf(name: string): string | undefined {
    const before = this.remembered.get(name);
    const holds = before !== undefined && !(this.seen.has(name) && this.seen.has(before));
    return this.others.get(name) ?? (holds ? before : undefined);
  }

  /** Returns why nothing may be removed from a place; undefined if no other name of it is known. */
  reasonToKeep(name: string): LifeboatError | undefined {
    const other = this.otherNameOf(name);
    return other === undefined ? undefined : samePlace(name, other);
  }
}

function samePlace(name: string, other: string): LifeboatError {
  const [one, two] = name === DESTINATION ? [other, name] : [name, other];
  return new LifeboatError('DEST_FOREIGN', `${one} is ${two}, under another name`, {
    hint: 'Check what is mounted there. Remove it from LIFEBOAT_COPY, or give the copy a place of its own. Until then, nothing is removed from either.',
  });
}
