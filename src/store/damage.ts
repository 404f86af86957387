import { isDiskError, LifeboatError } from '../errors.ts';
import type { Repository } from './repository.ts';
import { readInfo } from './repository-info.ts';

/** What a failure to read an object says. The only place that decides it. */
export type Finding =
  /** the object: its bytes, or that it is missing */
  | 'damage'
  /** the object cannot be read now, and others can: rights, a server that fails for this one */
  | 'unread'
  /** nothing of the object: the way to the repository, or its disk or server, does not work */
  | 'outage';

/** Object names are random, and so is where objects lie: when so many in a row cannot be read, it is not each of them. */
const IN_A_ROW = 3;

/** True for what only an object itself can be to blame for. */
export function isDamage(error: unknown): error is LifeboatError {
  return error instanceof LifeboatError && (error.code === 'OBJECT_DAMAGED' || error.code === 'OBJECT_MISSING');
}

/** Judges failures to read objects, in the order in which they are read. */
export class DamageJudge {
  private readonly repository: Pick<Repository, 'destination' | 'info'>;
  private inARow = 0;

  constructor(repository: Pick<Repository, 'destination' | 'info'>) {
    this.repository = repository;
  }

  /** To be called for each object that could be read. */
  read(): void {
    this.inARow = 0;
  }

  /**
   * What `error` says. A disk that was unplugged gives an input error for every file, an unmounted one has no file at all, and a
   * proxy answers for a server that is gone: so the repository is looked for as well, and objects count that fail one after another.
   */
  async judge(error: unknown): Promise<Finding> {
    if (!(error instanceof LifeboatError) || !(await this.isThere())) return 'outage';
    const ofBytes = isDamage(error) && !isDiskError(error.cause);
    if (ofBytes) return 'damage';
    this.inARow += 1;
    if (this.inARow >= IN_A_ROW) return 'outage';
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
}
