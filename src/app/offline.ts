import { readFile } from 'node:fs/promises';
import type { Self } from '../docker/discover.ts';
import type { Mount } from '../plan/model.ts';

/**
 * Returns what the agent knows about itself if no engine is available: its mounts, as the kernel lists them (proc(5)).
 */
export async function offlineSelf(): Promise<Self> {
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  const nothing = { labels: {}, imageLabels: {}, env: {} };
  return { facts: { id: '', name: '', project: '', service: '', imageId: '', running: true, ...nothing, mounts } };
}

/** Parses the mount points in /proc/self/mountinfo, except the root. Octal escapes encode blanks. */
function parseMountinfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [, , , root = '', point = '/', options = '', ...rest] = line.split(' ');
    if (point === '/' || point === '') return [];
    const kind = rest[rest.indexOf('-') + 1];
    const destination = point.replace(/\\([0-7]{3})/g, (_, code: string) =>
      String.fromCharCode(Number.parseInt(code, 8)),
    );
    const writable = options.split(',').includes('rw');
    return [{ type: kind === 'tmpfs' ? 'tmpfs' : 'bind', source: root, destination, writable }];
  });
}
