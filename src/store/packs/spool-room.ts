import { statfs } from 'node:fs/promises';

/** Space that remains free in the spool if more than one pack is open, bytes. */
const RESERVE = 256 * 1024 * 1024;

/** Returns whether the spool has room for a second open pack. `needed`: bytes. */
export async function hasRoomFor(spool: string, needed: number): Promise<boolean> {
  const { bavail, bsize } = await statfs(spool);
  return bavail * bsize >= needed + RESERVE;
}
