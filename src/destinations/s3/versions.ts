import type { S3Connection } from './client.ts';

/** One of the versions of an object that a bucket with versioning keeps, or the marker that it was deleted. */
export interface Version {
  key: string;
  id: string;
  /** milliseconds since 1970 */
  at: number;
  /** the one that is read now */
  latest: boolean;
  /** absent for a marker */
  content?: { size: number; etag: string; storageClass: string | undefined };
}

/** A version that holds something. */
export type Kept = Version & Required<Pick<Version, 'content'>>;

/**
 * What brings an object back to what it was: `unmark`: it was only deleted, and shows again without these markers; `copy`: it was
 * overwritten too; `hide`: there was none then.
 */
export type Mend =
  | { act: 'none' }
  | { act: 'unmark'; markers: Version[]; was: Kept }
  | { act: 'copy'; was: Kept }
  | { act: 'hide'; latest: Version };

/** More markers than that are left where they are, and the version is copied. */
const MARKERS = 50;

/**
 * What to do about one object.
 *
 * @param versions all of its versions and markers, in any order
 * @param then the moment to go back to, milliseconds since 1970
 */
export function mendOf(versions: readonly Version[], then: number): Mend {
  // Times may have whole seconds only: of two in one second the one that is read now is the newer, and then what holds something.
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

/** All versions and markers below the prefix of the connection, one object after the other. */
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
    const more = page.IsTruncated && page.NextKeyMarker !== undefined;
    // The last one of a page may go on in the next.
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
