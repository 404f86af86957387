import path from 'node:path';
import type { Log } from '../base/log.ts';
import { plural } from '../report/format.ts';
import { readWalLogs, type WalLog, type WalRepository } from '../store/wal/read-log.ts';
import { endOfData, namesOf } from './spool/received-files.ts';
import { writersOf } from './waiting.ts';

/** Where {@link warnOfUnstored} looks. */
interface Unstored {
  repository: WalRepository;
  /** the directory of received WAL in the spool */
  spool: string;
  source: string;
  log: Log;
}

/** Tells people about received WAL that is not stored, so that a recovery does not have it. Throws as reading does. */
export async function warnOfUnstored({ repository, spool, source, log }: Unstored, signal: AbortSignal): Promise<void> {
  const directory = path.join(spool, source);
  const writers = await writersOf(directory);
  if (writers.length === 0) return;
  const logs = await readWalLogs(repository, source, signal);
  let count = 0;
  for (const { systemId, segmentSize } of writers) {
    const own = logs.filter(({ place }) => place.systemId === systemId);
    for (const name of await namesOf(directory, segmentSize))
      if (!(await isStored({ directory, name, segmentSize }, own))) count++;
  }
  if (count > 0)
    log.warn(`${plural(count, 'segment')} of WAL wait in the spool, and no recovery has them before they are stored`, {
      ...{ source, directory },
    });
}

async function isStored(
  { directory, name, segmentSize }: { directory: string; name: string; segmentSize: number },
  logs: readonly WalLog[],
): Promise<boolean> {
  if (logs.some(({ segments }) => segments.has(name))) return true;
  const end = await endOfData(directory, name, segmentSize);
  const stored = logs.flatMap(({ wal }) => wal.partials.filter((one) => one.name === name).map(({ to }) => to));
  return end <= Math.max(0, ...stored);
}
