import type { S3Connection } from './client.ts';
import { incompleteListing } from './errors.ts';

/** A version of an object in a bucket with versioning, or a delete marker. */
export interface Version {
  key: string;
  id: string;
  /** milliseconds since 1970 */
  at: number;
  /** the current version */
  latest: boolean;
  /** absent for a delete marker */
  content?: { size: number; etag: string; storageClass: string | undefined };
}

/** A version that has content. */
export type Kept = Version & Required<Pick<Version, 'content'>>;

/**
 * The action that returns an object to its earlier state. `unmark`: it was only deleted, so its delete markers are
 * removed; `copy`: it was also overwritten, so its version is copied; `hide`: it did not exist then, so it is hidden.
 */
export type UndeleteAction =
  | { act: 'none' }
  | { act: 'unmark'; markers: Version[]; was: Kept }
  | { act: 'copy'; was: Kept }
  | { act: 'hide'; latest: Version };

/** If there are more markers, they stay, and the version is copied. */
const MARKERS = 50;

/**
 * Plans the action for one object.
 *
 * @param versions all of its versions and markers, in any order
 * @param then the time to return to, milliseconds since 1970
 */
export function planUndelete(versions: readonly Version[], then: number): UndeleteAction {
  // Times may be in whole seconds. Of two in the same second, the current one is newer, and then the one that has
  // content.
  const order = (one: Version) => [one.at, one.latest ? 1 : 0, one.content ? 1 : 0];
  const sorted = versions.toSorted((a, b) => {
    const [x, y] = [order(a), order(b)];
    return (y[0] ?? 0) - (x[0] ?? 0) || (y[1] ?? 0) - (x[1] ?? 0) || (y[2] ?? 0) - (x[2] ?? 0);
  });
  const latest = versions.find((one) => one.latest);
  const was = sorted.find(({ at }) => at <= then);
  if (!was || !isKept(was)) return latest?.content ? { act: 'hide', latest } : { act: 'none' };
  if (was.latest || (latest?.content && sameContent(latest.content, was.content))) return { act: 'none' };
  const newer = sorted.slice(0, sorted.indexOf(was));
  if (newer.every(({ content }) => !content) && newer.length <= MARKERS) return { act: 'unmark', markers: newer, was };
  return { act: 'copy', was };
}

function isKept(version: Version): version is Kept {
  return version.content !== undefined;
}

function sameContent(a: Kept['content'], b: Kept['content']): boolean {
  return a.size === b.size && a.etag === b.etag;
}

/** Lists all versions and markers below the prefix of the connection, grouped by object. */
export async function* versionsByKey(s3: S3Connection): AsyncGenerator<Version[]> {
  let from: { KeyMarker?: string; VersionIdMarker?: string } = {};
  let groups = new Map<string, Version[]>();
  for (;;) {
    const request = { Bucket: s3.bucket, Prefix: s3.prefix, ...from };
    const page = await s3
      .send((sdk, client, options) => client.send(new sdk.ListObjectVersionsCommand(request), options))
      .catch((error: unknown) => {
        throw s3.explain(error, 'versions');
      });
    const add = (key: string, version: Version) => {
      const group = groups.get(key);
      if (group) group.push(version);
      else groups.set(key, [version]);
    };
    for (const {
      Key = '',
      VersionId = '',
      LastModified,
      IsLatest,
      Size = 0,
      ETag = '',
      StorageClass,
    } of page.Versions ?? []) {
      const content = { size: Size, etag: ETag, storageClass: StorageClass };
      add(Key, { key: Key, id: VersionId, at: LastModified?.getTime() ?? 0, latest: IsLatest === true, content });
    }
    for (const { Key = '', VersionId = '', LastModified, IsLatest } of page.DeleteMarkers ?? []) {
      add(Key, { key: Key, id: VersionId, at: LastModified?.getTime() ?? 0, latest: IsLatest === true });
    }
    const more = page.IsTruncated === true;
    if (more && page.NextKeyMarker === undefined) throw incompleteListing(s3.name);
    // The versions of the last key may continue on the next page.
    const open = more ? page.NextKeyMarker : undefined;
    for (const [key, versions] of groups) if (key.startsWith(s3.prefix) && key !== open) yield versions;
    if (!more) return;
    const rest = open === undefined ? undefined : groups.get(open);
    groups = new Map(open !== undefined && rest ? [[open, rest]] : []);
    from = {
      ...(page.NextKeyMarker === undefined ? {} : { KeyMarker: page.NextKeyMarker }),
      ...(page.NextVersionIdMarker ? { VersionIdMarker: page.NextVersionIdMarker } : {}),
    };
  }
}
