/** The largest size of a plain document (facts, lists), bytes. Larger documents are neither stored nor read. */
export const MAX_DOCUMENT = 64 * 1024 * 1024;
/**
 * The same for documents that are read whenever a repository is listed, even if somebody forged them: manifests,
 * leases, tombstones, pins and lifeboat.json. A manifest has about 2 KB for each source, and 100 bytes for each
 * database.
 */
export const MAX_RECORD = 4 * 1024 * 1024;

/** A line of an index, 5,000 bytes long at most with equal beginnings, takes at least 6 bytes of a compressed index. */
const MAX_RATIO = 1000;

/** Returns the largest size to which an object of `size` bytes unpacks, bytes. */
export function mostUnpacked(size: number): number {
  return MAX_DOCUMENT + MAX_RATIO * size;
}
