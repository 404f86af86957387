import type { Destination } from '../../destinations/destination.ts';

/** The size of one project in a repository, bytes as stored. */
export interface StoredSizes {
  bytes: number;
  objects: number;
  /** packs, indexes, facts and WAL of each source; the rest belongs to no source */
  sources: Record<string, number>;
}

/** A document of a source in a snapshot; a source's name may have dots. */
const DOCUMENT = /^(.+)\.(?:facts\.json|index\.ndjson|packs\.ndjson)(?:\.(?:zst|age|gpg))*$/;

/**
 * Sums up the sizes of a project's objects.
 *
 * @param destination lists the objects; a listing that is in memory already costs no request
 * @param project name of the project
 * @param options `without`: keys that do not count, because they are deleted now
 * @throws what `list` throws
 */
export async function measureStored(
  destination: Destination,
  project: string,
  { without = new Set(), signal }: { without?: ReadonlySet<string>; signal?: AbortSignal } = {},
): Promise<StoredSizes> {
  const sizes: StoredSizes = { bytes: 0, objects: 0, sources: {} };
  const prefix = `${project}/`;
  const sources = new Map<string, number>();
  for await (const { key, size = 0 } of destination.list(prefix, signal ? { signal } : {})) {
    if (without.has(key)) continue;
    sizes.bytes += size;
    sizes.objects += 1;
    const source = sourceOf(key.slice(prefix.length));
    if (source !== undefined) sources.set(source, (sources.get(source) ?? 0) + size);
  }
  sizes.sources = Object.fromEntries([...sources].sort());
  return sizes;
}

function sourceOf(key: string): string | undefined {
  const [kind, second, third] = key.split('/', 3);
  if (kind === 'packs' || kind === 'wal') return second;
  return kind === 'snapshots' && third !== undefined ? DOCUMENT.exec(third)?.[1] : undefined;
}
