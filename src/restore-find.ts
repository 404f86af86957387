import { LifeboatError } from './errors.ts';
import { lastGoodOf, lastStoredOf } from './run-rules.ts';
import { gapAfter } from './store/chain.ts';
import type { Manifest, ManifestSource } from './store/manifest.ts';
import type { Repository } from './store/repository.ts';
import { unsigned } from './store/signing.ts';

/** A snapshot, and what it holds of a source. */
export interface FoundSnapshot {
  snapshot: Manifest;
  entry: ManifestSource;
  /** what is missing in it, or that a newer one has a part: lines for people */
  notes: string[];
}

/**
 * The snapshot that a restore is asked for. `latest` is the newest that has the whole source; only where there is none, the
 * newest that has a part of it. With a signing key, a snapshot that is not signed is taken only with `unsigned`, and `latest` only
 * where nothing newer is missing.
 *
 * Errors: SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN; SIGNATURE_*, CHAIN_BROKEN; OBJECT_DAMAGED for a manifest that cannot be read; what the destination throws; the signal's reason.
 */
export async function findSnapshot(
  repository: Repository,
  request: { snapshot: string; source: string; unsigned: boolean; signal?: AbortSignal },
): Promise<FoundSnapshot> {
  const { source } = request;
  if (request.snapshot === 'latest') return findLatest(repository, request);
  const { manifest: snapshot, ...resolved } = await repository.resolve(request.snapshot);
  if (resolved.unsigned && !request.unsigned) throw unsigned(`snapshot ${snapshot.id}`);
  const entry = snapshot.sources[source];
  if (!entry || entry.status === 'failed') {
    const good = Object.keys(snapshot.sources).filter((name) => snapshot.sources[name]?.status !== 'failed');
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${snapshot.id} does not hold ${source}`, {
      hint: sourceHint(good),
    });
  }
  return { snapshot, entry, notes: gapsOf(entry) };
}

/** With a damaged manifest among the newer ones the latest cannot be told. */
async function findLatest(
  repository: Repository,
  { source, unsigned: takeUnsigned, signal }: { source: string; unsigned: boolean; signal?: AbortSignal },
): Promise<FoundSnapshot> {
  const { snapshots, damaged } = await repository.snapshots(signal);
  const manifests = snapshots.map(({ manifest }) => manifest);
  const lastGood = lastGoodOf(manifests, source);
  const found = lastGood && manifests.find(({ id }) => id === lastGood.snapshot);
  const newer = damaged.find(({ id }) => found === undefined || id > found.id);
  if (newer) {
    throw new LifeboatError(
      newer.error.code,
      `the manifest of ${newer.id} cannot be used, so the latest is not known`,
      {
        cause: newer.error,
        hint: found
          ? `The newest one that can be used is ${found.id}: name it to restore it.`
          : 'No other snapshot holds the source.',
      },
    );
  }
  if (found) {
    if (!takeUnsigned && snapshots.some((one) => one.unsigned && one.manifest === found)) {
      throw unsigned(`snapshot ${found.id}`);
    }
    const gap = repository.signing.active ? await gapAfter(repository, snapshots, found.id) : undefined;
    if (gap) {
      throw new LifeboatError('CHAIN_BROKEN', `${gap.error.message}, so the latest is not known`, {
        hint: `The newest one that can be used is ${found.id}: name it to restore it. \`lifeboat check\` tells more.`,
      });
    }
    const stored = lastStoredOf(manifests, source);
    const beyond =
      stored && stored.snapshot !== found.id
        ? [`${stored.snapshot} is newer but not whole, so it is left aside; name it to restore it`]
        : [];
    return { snapshot: found, entry: lastGood.entry, notes: [...gapsOf(lastGood.entry), ...beyond] };
  }
  const names = new Set(manifests.flatMap(({ sources }) => Object.keys(sources)));
  throw new LifeboatError('SOURCE_UNKNOWN', `no snapshot holds ${source}`, { hint: sourceHint([...names]) });
}

function gapsOf({ status, error }: ManifestSource): string[] {
  return status === 'partial' && error ? [`not whole: ${error.message} (${error.code})`] : [];
}

function sourceHint(names: string[]): string {
  return names.length === 0 ? 'The repository holds no snapshot yet.' : `There is: ${names.sort().join(', ')}.`;
}
