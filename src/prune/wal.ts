import type { ObjectInfo } from '../destinations/destination.ts';
import { baseName } from '../plan/postgres.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { currentLog, isOfUse, neededWal, problemsOf } from '../store/wal/needed.ts';
import { isWalObject } from '../store/wal/page.ts';
import { readWalLogs, type WalLog, type WalRepository } from '../store/wal/read-log.ts';
import { basesOf } from '../store/wal/recoverable.ts';
import { lostEnd, type Remembering } from '../store/wal/remembered.ts';
import type { Base } from '../store/wal/windows.ts';

/**
 * Lists the stored WAL that no base backup needs: segments before the first one that the oldest remaining base backup
 * reads, the pages that list only such segments, and objects that no page names. A server keeps everything if a base
 * backup needs a log of it that cannot be read completely, or if the agent has stored more of its log than there is.
 * So does the present server of a source while it has no base backup. History files and the newest page always stay.
 *
 * @param manifests the snapshots that remain
 * @param remembered what the agent remembers of the WAL that it has stored; absent: nothing
 */
export async function* listUnneededWal(
  repository: WalRepository,
  manifests: readonly Manifest[],
  remembered?: Remembering,
): AsyncGenerator<ObjectInfo> {
  const { destination, project } = repository;
  const prefix = `${project}/wal/`;
  const found = new Map<string, ObjectInfo[]>();
  for await (const object of destination.list(prefix)) {
    const [source = ''] = object.key.slice(prefix.length).split('/');
    if (!isWalObject(object.key.slice(prefix.length + source.length + 1))) continue;
    const objects = found.get(source) ?? [];
    objects.push(object);
    found.set(source, objects);
  }
  for (const [source, stored] of found) {
    const bases = basesOf(manifests, baseName(source));
    // Before the log, which may grow meanwhile.
    const known = await remembered?.(source);
    const logs = await readWalLogs(repository, source);
    const needed = new Set<string>();
    // The segments that a removed page listed may be all that is left of that history.
    const whole = lostEnd(repository, source, logs, known) ? [`${prefix}${source}/${known?.systemId}/`] : [];
    const current = currentLog(logs);
    for (const log of logs) {
      const isUnread = isOfUse(log, logs, bases) && (problemsOf(log, logs, bases).length > 0 || !log.last);
      if (isUnread || needsUnsigned(log, bases)) whole.push(`${prefix}${source}/${log.place.systemId}/`);
      const { objects, pages, open } = neededWal(log, bases, log === current);
      for (const key of [...pages, ...[...objects, ...open].map((one) => one.key)]) needed.add(key);
    }
    for (const object of stored)
      if (!needed.has(object.key) && !whole.some((one) => object.key.startsWith(one))) yield object;
  }
}

/** A base backup from before the signing key was set may need WAL that only unsigned pages list. */
function needsUnsigned({ hasUnsigned, pages, place }: WalLog, bases: readonly Base[]): boolean {
  const [first] = pages;
  const isOlder = ({ systemId, stopTime }: Base) => systemId === place.systemId && stopTime < (first?.page.at ?? '');
  return hasUnsigned && bases.some(isOlder);
}
