import { hasCode, isDiskError, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import type { Repository } from './repository.ts';
import { readInfo } from './repository-info.ts';

/** What a failure to read an object says. The only place that decides it. */
type Finding =
  /** the object: its bytes, or that it is missing */
  | 'damage'
  /** the object cannot be read now, and others can: rights, a server that fails for this one */
  | 'unread'
  /** nothing of the object: the way to the repository, or its disk or server, does not work */
  | 'outage';

/** When so many in a row cannot be read, others are looked at before it counts as each of them. */
const IN_A_ROW = 3;

/** How many others: some of them may be damaged too. */
const OTHERS = 5;

/** True for what only an object itself can be to blame for. */
export function isDamage(error: unknown): error is LifeboatError {
  return hasCode(error, 'OBJECT_DAMAGED', 'OBJECT_MISSING');
}

/** Judges failures to read objects, in the order in which they are read. */
export class DamageJudge {
  /** Keys of the latest objects that could not be read, one after another. After an outage, they say nothing of these objects. */
  readonly doubted = new Set<string>();
  private readonly repository: Pick<Repository, 'destination' | 'info'>;
  private readonly keys: readonly string[];
  private readonly tried = new Set<string>();

  /** @param keys of all objects that should be there: what an outage is proved by */
  constructor(repository: Pick<Repository, 'destination' | 'info'>, keys: readonly string[]) {
    this.repository = repository;
    this.keys = keys;
  }

  /** To be called for each object that could be read. */
  read(key: string): void {
    this.tried.add(key);
    this.doubted.clear();
  }

  /**
   * What `error` says of the object `key`. A disk that was unplugged gives an input error for every file, an unmounted one has no
   * file at all, and a proxy answers for a server that is gone: so the repository is looked for as well. Where objects fail one
   * after another, it is an outage only if no other object can be read either: bad sectors and lost directories lie together.
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

  /** Whether the repository is still there, and the same. */
  async isThere(): Promise<boolean> {
    const { destination, info } = this.repository;
    return readInfo(destination).then(
      (found) => found?.id === info.id,
      () => false,
    );
  }

  /** Objects that were not read yet say more: the system's memory may give the others without the disk. */
  private async canReadOther(): Promise<boolean> {
    const fresh = this.keys.filter((key) => !this.tried.has(key));
    const others = fresh.length > 0 ? fresh : this.keys.filter((key) => !this.doubted.has(key));
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
    // It is one of those that cannot be read.
  }
  return false;
}
