import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';

/** The container, of which the host name is the id. It stays the same when the container starts again. */
const HOST = createHash('sha256').update(hostname()).digest('hex').slice(0, 8);

/**
 * Returns the name of this process for names of files: its container, its id, and its start, because ids are used
 * again.
 */
export function processName(): string {
  return `${HOST}.${process.pid}.${startOf(process.pid) ?? 0}`;
}

/** Returns whether a process of this container has ended. False for a process of another container: nobody knows. */
export function hasEnded(name: string): boolean {
  const [host, pid = '', start] = name.split('.');
  if (host !== HOST || !/^\d+$/.test(pid)) return false;
  // Without /proc, nothing is known about any process.
  return startOf(process.pid) !== undefined && startOf(Number(pid)) !== start;
}

/** Returns when a process started, in clock ticks since the boot (proc(5), field 22 of stat). */
function startOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name of the program, in parentheses, may hold spaces and parentheses.
    return text.slice(text.lastIndexOf(')') + 2).split(' ')[19];
  } catch {
    return undefined;
  }
}
