import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseSnapshotId } from '../store/objects/snapshot-id.ts';
import type { ManifestCache } from '../store/repository/repository.ts';

/**
 * Opens a cache of manifests in a directory, one file for each. The version of an object comes from the destination and
 * changes whenever the object is written again, so a manifest that somebody replaced is fetched and checked.
 *
 * @param directory created when it is needed; used for one project at one destination only
 */
export function openManifestCache(directory: string): ManifestCache {
  const fileOf = (id: string) => path.join(directory, `${id}.json`);
  return {
    async read(id, version) {
      try {
        const content = await readFile(fileOf(id));
        const head = headOf(version, content.subarray(content.indexOf('\n') + 1));
        return content.subarray(0, head.length).equals(head) ? content.subarray(head.length) : undefined;
      } catch {
        return undefined;
      }
    },
    async write(id, version, bytes) {
      try {
        await mkdir(directory, { recursive: true, mode: 0o700 });
        const temporary = `${fileOf(id)}.${process.pid}.new`;
        await writeFile(temporary, Buffer.concat([headOf(version, bytes), bytes]), { mode: 0o600 });
        await rename(temporary, fileOf(id));
      } catch {
        // A full spool only costs requests.
      }
    },
    async keepOnly(ids) {
      const wanted = new Set(ids);
      for (const name of await readdir(directory).catch(() => [])) {
        const id = name.split('.')[0] as string;
        if (!parseSnapshotId(id) || wanted.has(id)) continue;
        await rm(path.join(directory, name), { force: true }).catch(() => undefined);
      }
    },
  };
}

/** The first line of a cached file: the version of the object, and the hash of the bytes that follow. */
function headOf(version: string, bytes: Buffer): Buffer {
  return Buffer.from(`${JSON.stringify(version)} ${createHash('sha256').update(bytes).digest('hex')}\n`);
}
