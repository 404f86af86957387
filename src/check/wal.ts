import type { ErrorInfo } from '../base/errors.ts';
import { errorInfo } from '../base/errors.ts';
import { baseName } from '../plan/postgres.ts';
import type { Manifest, ObjectRef } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';
import { neededWal, problemsOf } from '../store/wal/needed.ts';
import { walPrefix } from '../store/wal/page.ts';
import { readWalLogs } from '../store/wal/read-log.ts';
import { basesOf, serversOf } from '../store/wal/recoverable.ts';
import { lostEnd, type Remembering } from '../store/wal/remembered.ts';

/** The WAL to check. */
interface WalToCheck {
  /** what base backups need; without the segment that is being received, whose parts are replaced all the time */
  objects: ObjectRef[];
  /** pages that cannot be used, or do not follow each other */
  problems: { key: string; error: ErrorInfo }[];
}

/** Returns the WAL that the base backups in snapshots need. Without base backups, it sends no request. */
export async function walToCheck(
  repository: Repository,
  manifests: readonly Manifest[],
  { remembered, signal }: { remembered?: Remembering; signal: AbortSignal },
): Promise<WalToCheck> {
  const found: WalToCheck = { objects: [], problems: [] };
  for (const source of serversOf(manifests)) {
    const bases = basesOf(manifests, baseName(source));
    // Before the log, which may grow meanwhile.
    const known = await remembered?.(source);
    const logs = await readWalLogs(repository, source, signal);
    const lost = lostEnd(repository, source, logs, known);
    const prefix = walPrefix({ project: repository.project, source });
    if (lost) found.problems.push({ key: `${prefix}log`, error: errorInfo(lost) });
    for (const log of logs) {
      found.objects.push(...neededWal(log, bases, false).objects);
      const key = `${walPrefix(log.place)}${log.place.systemId}/log`;
      found.problems.push(...problemsOf(log, logs, bases).map((error) => ({ key, error: errorInfo(error) })));
    }
  }
  return found;
}
