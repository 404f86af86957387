import { hasCode } from '../../../base/errors.ts';
import type { Tools } from '../server/tools.ts';

/** The size and the free space of a file system, bytes. */
export interface DiskSpace {
  total: number;
  free: number;
}

/** Parses the output of `df -Pk` about one file: Filesystem, 1024-blocks, Used, Available, Capacity, Mounted on. */
export function parseDf(table: string): DiskSpace | undefined {
  const line = table.trim().split('\n').at(-1) ?? '';
  const [, total, , available] = /\s(\d+)\s+(\d+)\s+(\d+)\s+\d+%\s/.exec(line) ?? [];
  if (total === undefined || available === undefined) return undefined;
  return { total: Number(total) * 1024, free: Number(available) * 1024 };
}

/**
 * Returns the space on the file system that holds the server's WAL. The tools must have been opened with `withData`.
 * Undefined if it is unknown, as for a `pg_wal` that is a mount of its own, or a link out of the mount of the data.
 */
export function walDisk(tools: Tools, signal: AbortSignal): Promise<DiskSpace | undefined> {
  return diskOf(tools, '/pg_wal', signal);
}

/** Returns the free space on the file system of the server's data, bytes, like {@link walDisk}. */
export async function freeDataSpace(tools: Tools, signal: AbortSignal): Promise<number | undefined> {
  return (await diskOf(tools, '', signal))?.free;
}

/**
 * Prints the file system of a path, or of the nearest parent that the helper may look at: it has no right to enter a
 * data directory, which belongs to the user of the server. The parent is in the same mount.
 */
const DISK_SCRIPT = `p=$1; until df -Pk -- "$p" 2>/dev/null; do [ "$p" != / ] && p=$(dirname -- "$p") || exit 1; done`;

/** Asks `df` in the helper. `below`: a path in the server's data directory. */
async function diskOf(tools: Tools, below: string, signal: AbortSignal): Promise<DiskSpace | undefined> {
  try {
    const control = await tools.control();
    const { directory } = await control.one<{ directory: string }>(
      "SELECT current_setting('data_directory') AS directory",
    );
    // The helper has no other mount of the container, so it would show another file system.
    if (below !== '' && !(await tools.sharesMount(`${directory}${below}`, directory, signal))) return undefined;
    return parseDf(await tools.run(['sh', '-c', DISK_SCRIPT, 'disk', `${directory}${below}`], signal));
  } catch (error) {
    if (signal.aborted || hasCode(error, 'ENGINE_UNREACHABLE')) throw error;
    tools.log.debug('the space of the server is unknown', { error: String(error) });
    return undefined;
  }
}
