import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { IndexEntry } from '../../src/store/filesystem/index-file.ts';
import { ZipHeaders } from '../../src/store/packs/zip.ts';

/** Packs and indexes as Lifeboat makes them, for tests that change them. */

export const PACK_ID = 'c'.repeat(32);
export const ROOT: IndexEntry = { path: '', type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: 0n };

export const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');

/** A line of the index. `entry`: what the pack calls it. */
export function file(path: string, content: Buffer, entry = path): IndexEntry {
  const { length: size } = content;
  return { ...ROOT, path, type: 'file', size, sha256: sha256(content), pack: PACK_ID, entry };
}

export type Content = [name: string, content: Buffer];

/** A pack of these contents. */
export function zip(...contents: Content[]): Buffer {
  const headers = new ZipHeaders();
  const parts = contents.flatMap(([name, content]) => [
    headers.before(name, 0n, { size: content.length, crc32: crc32(content) }),
    content,
  ]);
  return Buffer.concat([...parts, headers.end()]);
}
