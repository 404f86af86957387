import { hasCode, isDiskError, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { KeySet } from '../objects/key-set.ts';
import type { Repository } from './repository.ts';
import { readInfo } from './repository-info.ts';

/** The meaning of a failure to read an object. Only this module decides it. */
type Finding =
  /** the object is damaged or missing */
  | 'damage'
  /** this object cannot be read now, but others can: missing permissions, or a server that fails for this one */
  | 'unread'
  /** the failure says nothing about the object: the repository's disk, server or network does not work */
  | 'outage';

/** After this many failures in a row, other objects are tried before the failures count against their objects. */
const IN_A_ROW = 3;

/** The number of other objects to try. More than one, because some of them may be damaged too. */
const OTHERS = 5;

/** Returns true for an error code that concerns an object itself. */
export function isDamage(error: unknown): error is LifeboatError {
  return hasCode(error, 'OBJECT_DAMAGED', 'OBJECT_MISSING');
}

/** Judges failures to read objects, in the order in which they are read. */
export class DamageJudge {
  /**
   * Keys of the objects of the current run of failures. If it turns out to be an outage, these failures do not count.
   */
  readonly doubted = new Set<string>();
  private readonly repository: Pick<Repository, 'destination' | 'info'>;
  private readonly keys: () => Promise<readonly string[]>;
  private readonly tried = new KeySet();

  /**
   * @param keys returns the keys of all objects that should be there. Reading some of them proves or disproves an
   * outage
   */
  constructor(repository: Pick<Repository, 'destination' | 'info'>, keys: () => Promise<readonly string[]>) {
    this.repository = repository;
    this.keys = keys;
  }

  /** Records an object that could be read. Call it for each of them. */
  read(key: string): void {
    this.tried.add(key);
    this.doubted.clear();
  }

  /**
   * Returns what `error` means for the object `key`. An unplugged disk returns an I/O error for every file, an
   * unmounted one shows no files at all, and a proxy may answer for a server that is gone. So the repository itself is
   * checked as well. If several objects in a row fail, it is an outage only if no other object can be read: bad sectors
   * and lost directories affect neighbouring objects.
   */
  async judge(key: string, error: unknown): Promise<Finding> {
    this.tried.add(key);
    if (!(error instanceof LifeboatError) || !(await this.isThere())) return 'outage';
    const ofBytes = isDamage(error) && !isDiskError(error.cause);
    if (ofBytes) return 'damage';
    this.doubted.add(key);
    if (this.doubted.size >= IN_A_ROW) {
      if (!(await this.canReadOther())) return 'outage';
      this.doubted.clear();
    }
    return isDamage(error) ? 'damage' : 'unread';
  }

  /** Returns whether the same repository is still there. */
  async isThere(): Promise<boolean> {
    const { destination, info } = this.repository;
    return readInfo(destination).then(
      (found) => found?.id === info.id,
      () => false,
    );
  }

  /** Prefers objects that were not read yet: the system's cache may return the others without the disk. */
  private async canReadOther(): Promise<boolean> {
    const keys = await this.keys().catch(() => []);
    const fresh = keys.filter((key) => !this.tried.has(key));
    const others = fresh.length > 0 ? fresh : keys.filter((key) => !this.doubted.has(key));
    const step = Math.max(1, Math.floor(others.length / OTHERS));
    for (let i = 0; i < others.length; i += step) {
      if (await canRead(this.repository.destination, others[i] as string)) return true;
    }
    return false;
  }
}

async function canRead(destination: Destination, key: string): Promise<boolean> {
  try {
    for await (const _ of await destination.get(key, { range: { start: 0, end: 1 } })) return true;
  } catch {
    // It cannot be read.
  }
  return false;
}
