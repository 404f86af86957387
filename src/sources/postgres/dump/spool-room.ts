import { statfsSync } from 'node:fs';
import { LifeboatError } from '../../../base/errors.ts';
import { formatBoth } from '../../../report/format.ts';
import type { DatabaseListing } from '../facts/databases.ts';
import type { DumpCompression } from '../server/commands.ts';

/**
 * The share of a database's size that a zstd dump may need in the spool. Measured dumps need 10–35 %, because they have
 * no indexes. Data that does not compress causes SPOOL_FULL when the disk is full.
 */
const ZSTD_SHARE = 0.5;

/**
 * An uncompressed dump is made if the spool has this many times the size of the databases free, and
 * {@link PLAIN_RESERVE}. Most such dumps need 60–90 % of that size. Values that the server stores compressed, and
 * `bytea`, need more.
 */
const PLAIN_FACTOR = 2;
/** Bytes. 1 GiB. */
const PLAIN_RESERVE = 1024 ** 3;
/** The share of the free space that an uncompressed dump may take. The database may be on the same disk. */
const PLAIN_LIMIT = 0.75;

/** An uncompressed dump takes more of the spool than it may. A compressed one may fit. */
export class DumpTooLarge extends LifeboatError {
  constructor(cause?: unknown) {
    super('SPOOL_FULL', 'the uncompressed dump is too large for the spool', { cause });
  }
}

/** The room for an uncompressed dump. */
export class PlainRoom {
  private readonly spool: string;
  /** bytes that were free before the dump */
  private readonly free: number;

  private constructor(spool: string, free: number) {
    this.spool = spool;
    this.free = free;
  }

  /** Returns the room in a spool; undefined if it is too little for an uncompressed dump of databases. */
  static find(spool: string, databases: readonly DatabaseListing[]): PlainRoom | undefined {
    const free = freeBytes(spool);
    return free < sizeOf(databases) * PLAIN_FACTOR + PLAIN_RESERVE ? undefined : new PlainRoom(spool, free);
  }

  /**
   * Returns whether a dump of a size takes more room than it may. The free space counts as well, because a file with
   * holes takes less room than its size. `dumped`: bytes.
   */
  isUsedUp(dumped: number): boolean {
    return dumped > this.free * PLAIN_LIMIT && freeBytes(this.spool) < this.free * (1 - PLAIN_LIMIT);
  }
}

/** Checks that a dump is likely to fit. @throws SPOOL_FULL */
export function checkSpool(spool: string, databases: readonly DatabaseListing[], compression: DumpCompression): void {
  const free = freeBytes(spool);
  const need = sizeOf(databases) * (compression === 'zstd' ? ZSTD_SHARE : 1);
  if (free >= need) return;
  const [has, needs] = formatBoth(free, need);
  throw new LifeboatError('SPOOL_FULL', `the spool has ${has} free, the dump may need ${needs}`, {
    hint: 'Free space on the disk of the volume mounted at /spool, or mount a larger one there.',
  });
}

function freeBytes(directory: string): number {
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize;
}

function sizeOf(databases: readonly DatabaseListing[]): number {
  return databases.reduce((sum, { size }) => sum + size, 0);
}
