import type { ErrorInfo } from './errors.ts';
import type { Snapshot } from './store/repository.ts';
import type { Tombstone } from './store/tombstones.ts';

/**
 * Each manifest names its predecessor by number and hash, back to the first. Retention leaves a tombstone for each that it takes
 * away, so that one that is missing without is seen.
 */
export function chainBreaks(
  snapshots: readonly Snapshot[],
  tombstones: readonly Tombstone[],
): { snapshot: string; error: ErrorInfo }[] {
  const links = new Map<string, Link>();
  for (const { id, sequence, previous, sha256 } of tombstones) links.set(id, { id, sequence, previous, hash: sha256 });
  for (const { manifest, hash } of snapshots) {
    const { id, sequence, previous } = manifest;
    links.set(id, { id, sequence, previous, hash });
  }
  const chain = [...links.values()].sort((a, b) => a.sequence - b.sequence || (a.id < b.id ? -1 : 1));
  return chain.flatMap((link, i) => {
    const before = chain[i - 1] ?? { id: 'the beginning', sequence: 0, hash: null };
    if (before.sequence === link.sequence - 1 && before.hash === link.previous) return [];
    const message = `${link.id} does not follow ${before.id}: a manifest between them is missing or was changed`;
    return [{ snapshot: link.id, error: { code: 'OBJECT_DAMAGED' as const, message } }];
  });
}

interface Link {
  id: string;
  sequence: number;
  previous: string | null;
  hash: string;
}
