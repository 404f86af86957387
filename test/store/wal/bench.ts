import { createHash } from 'node:crypto';
import type { Destination } from '../../../src/destinations/destination.ts';
import type { Manifest, ObjectRef } from '../../../src/store/objects/manifest.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import type { Repository } from '../../../src/store/repository/repository.ts';
import { Signing } from '../../../src/store/repository/signing.ts';
import { formatLsn, segmentName, startOf } from '../../../src/store/wal/names.ts';
import { WalWriter } from '../../../src/store/wal/write-log.ts';
import { inMemory } from '../memory-destination.ts';

export const SIZE = 1024 * 1024;
export const SYSTEM = '7713464397883531290';

/** Returns the name of a segment. */
export const nameOf = (number: number, timeline = 1) => segmentName({ timeline, number }, SIZE);

/** Returns the key at which the bench stores a file of WAL. */
export const keyOf = (file: string, system = SYSTEM) =>
  `shop/wal/db.postgres/${system}/${file.slice(0, 8)}/${file}-abcdef`;

interface Storing {
  timeline?: number;
  system?: string;
  content?: (number: number) => Buffer;
  reached?: (number: number) => string;
}

interface BaseOptions {
  timeline?: number;
  system?: string;
  status?: 'ok' | 'failed';
  /** number of the first page of the history of its WAL */
  era?: number;
}

/** A repository in memory with WAL of one source. */
export class WalBench {
  readonly objects = new Map<string, string>();
  readonly destination: Destination = inMemory('memory', this.objects);
  readonly repository = {
    ...{ destination: this.destination, project: 'shop', keys: {} },
    signing: new Signing('one'),
  } as unknown as Repository;
  /** Returns the repository with snapshots that hold base backups. */
  withSnapshots(manifests: readonly Manifest[]): Repository {
    return {
      ...this.repository,
      snapshots: async () => ({ snapshots: manifests.map((manifest) => ({ manifest })), damaged: [] }),
      resolve: async (id: string) => ({ manifest: manifests.find((one) => one.id === id) }),
    } as unknown as Repository;
  }

  /** the time of what is stored next */
  at = '2026-11-20T03:00:00.000Z';

  open(systemId = SYSTEM): Promise<WalWriter> {
    return WalWriter.open(this.repository, {
      ...{ place: { project: 'shop', source: 'db.postgres', systemId }, segmentSize: SIZE, home: 'here' },
      now: () => new Date(this.at),
    });
  }

  /** Stores a file of WAL that no page lists. */
  async put(file: string, system = SYSTEM, content: Buffer | string = file): Promise<ObjectRef> {
    const key = keyOf(file, system);
    return { key, ...(await this.destination.put(key, streamOf(content))) };
  }

  /**
   * Stores segments, and lists them.
   *
   * @param options `content`: of each; default: its name. `reached`: the time that each reaches
   */
  async store(from: number, to: number, options: Storing = {}): Promise<void> {
    const { timeline = 1, system = SYSTEM, content, reached } = options;
    const writer = await this.open(system);
    for (let number = from; number <= to; number++) {
      const name = nameOf(number, timeline);
      const stored = await this.put(name, system, content?.(number));
      await writer.append({ segments: [{ name, ...stored, ...(reached ? { reached: reached(number) } : {}) }] });
    }
  }

  /** Stores segments with other bytes than another history has under the same names: a word before the name. */
  async storeAs(word: string, from: number, to: number): Promise<void> {
    const writer = await this.open();
    for (let number = from; number <= to; number++) {
      const name = nameOf(number);
      const key = `${keyOf(name).slice(0, -'abcdef'.length)}${createHash('md5').update(word).digest('hex').slice(0, 6)}`;
      const stored = await this.destination.put(key, streamOf(`${word} ${name}`));
      await writer.append({ segments: [{ name, key, ...stored }] });
    }
  }

  /** Stores a part of a segment, which is open from then on. */
  async storeOpen(number: number, to: number): Promise<ObjectRef> {
    const part = { from: 0, to, ...(await this.put(`${nameOf(number)}.${String(to).padStart(8, '0')}`)) };
    await (await this.open()).append({ open: { name: nameOf(number), parts: [part] } });
    return part;
  }

  /** Returns a snapshot with a base backup that begins and ends in a segment. */
  base(number: number, { timeline = 1, system = SYSTEM, status = 'ok', era }: BaseOptions = {}): Manifest {
    const times = { startTime: this.at, stopTime: this.at };
    const place = {
      ...{ systemId: system, timeline, ...(era === undefined ? {} : { era }) },
      startLsn: formatLsn(startOf(number, SIZE) + 40n),
      stopLsn: formatLsn(startOf(number, SIZE) + 4096n),
    };
    const sources = { 'db.postgres.base': { kind: 'base', status, base: { ...place, ...times } } };
    return { id: `base-${number}`, sources } as unknown as Manifest;
  }
}
