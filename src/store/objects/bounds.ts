/** The largest size of a plain document (facts, lists), bytes. Larger documents are neither stored nor read. */
export const MAX_DOCUMENT = 64 * 1024 * 1024;
/**
 * The largest size of documents that are read whenever a repository is listed: manifests, leases, tombstones, pins and
 * lifeboat.json. Larger ones are not stored, bytes. A manifest has about 2 KB for each source, and 100 bytes for each
 * database.
 */
export const MAX_RECORD = 4 * 1024 * 1024;
/** Such documents that are larger than this are not read, even if somebody forged them, bytes. */
export const MAX_READ_RECORD = 16 * 1024 * 1024;

/** A line of an index, 5,000 bytes long at most with equal beginnings, takes at least 6 bytes of a compressed index. */
const MAX_RATIO = 1000;

/** Returns the largest size to which an object of `size` bytes unpacks, bytes. */
export function mostUnpacked(size: number): number {
  return MAX_DOCUMENT + MAX_RATIO * size;
}
