import { aborted } from '../base/abort.ts';
import { LifeboatError } from '../base/errors.ts';
import type { Destination } from '../destinations/destination.ts';
import type { CopyState } from '../run/state.ts';
import { patiently } from '../run/watchdog.ts';
import { type Lease, leaseTokenAt } from '../store/repository/lease.ts';

/** What the destination is called where a copy is refused for being it. */
export const DESTINATION = 'the destination itself';

/** Where a place is looked at. */
interface At {
  destination: Destination;
  project: string;
}

/**
 * Finds places that are one under two names, a directory mounted twice or a server with two addresses: the retention of each
 * would remove what the other is to keep, so that nothing is removed in either. Whoever took a lease in one finds it in the other.
 */
export class SamePlace {
  /** by the token of its lease */
  private readonly names = new Map<string, string>();
  private readonly others = new Map<string, string>();
  private readonly seen = new Set<string>();
  private readonly remembered = new Map<string, string>();
  private turn: Promise<unknown> = Promise.resolve();

  /** `copies`: how they stood after the run before. What was found then holds until both names were looked at again. */
  constructor(copies: Readonly<Record<string, CopyState>> = {}) {
    for (const [name, { sameAs }] of Object.entries(copies)) {
      if (sameAs !== DESTINATION && !(sameAs !== undefined && sameAs in copies)) continue;
      this.remembered.set(name, sameAs).set(sameAs, name);
    }
  }

  /** `name`: how the place is called in an error. A lease without a token, of a run that needs none, tells nothing. */
  add(name: string, lease: Pick<Lease, 'token'> | undefined): void {
    if (lease?.token === undefined) return;
    this.names.set(lease.token, name);
    this.seen.add(name);
  }

  /**
   * Takes the lease of a place, one place after the other, so that of two names the second finds the lease of the first. A place
   * that does not answer is waited for until its own `signal` aborts. `alive` is called while others are waited for.
   *
   * @throws DEST_FOREIGN when `name` is one of the places before it: its lease is left alone then; what `lease` throws
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
      // Somebody else's turn by now: it could be the lease of another name that this one took over.
      if (signal.aborted) await held.release();
      signal.throwIfAborted();
      // A full place gives no lease yet. Whoever had the last one there tells it from others as well.
      this.add(name, { token: held.token ?? (await leaseTokenAt(at.destination, at.project)) });
      return held;
    });
    this.turn = before.then(() => Promise.race([taken.catch(() => undefined), aborted(signal)]));
    return taken;
  }

  /** DEST_FOREIGN when `name` is one of the other places, whether their leases are held or given back. */
  async refuse(name: string, at: At): Promise<void> {
    if (this.names.size === 0) return;
    const token = await leaseTokenAt(at.destination, at.project);
    const other = token === undefined ? undefined : this.names.get(token);
    if (other === undefined || other === name) return;
    this.others.set(name, other).set(other, name);
    throw samePlace(name, other);
  }

  /** Another name of the same place, as far as it is known. */
  otherNameOf(name: string): string | undefined {
    const before = this.remembered.get(name);
    const holds = before !== undefined && !(this.seen.has(name) && this.seen.has(before));
    return this.others.get(name) ?? (holds ? before : undefined);
  }

  /** Why nothing may be removed there; undefined where no other name of it is known. */
  reasonToKeep(name: string): LifeboatError | undefined {
    const other = this.otherNameOf(name);
    return other === undefined ? undefined : samePlace(name, other);
  }
}

function samePlace(name: string, other: string): LifeboatError {
  const [one, two] = name === DESTINATION ? [other, name] : [name, other];
  return new LifeboatError('DEST_FOREIGN', `${one} is ${two}, under another name`, {
    hint: 'Look at what is mounted there; take it out of LIFEBOAT_COPY, or give the copy a place of its own. Until then nothing is removed in either.',
  });
}
