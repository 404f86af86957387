import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { staleFiles } from '../../src/app/config-files.ts';
import type { Mount } from '../../src/plan/model.ts';

const mount = (destination: string): Mount => ({ type: 'bind', source: '/x', destination, writable: false });

test('a mounted file that is no longer in any directory is reported; others are not', async () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-config-'));
  const [gone, there] = ['gone', 'there'].map((name) => openSync(path.join(directory, name), 'w')) as [number, number];
  rmSync(path.join(directory, 'gone'));
  const mounts = [`/proc/self/fd/${gone}`, `/proc/self/fd/${there}`, '/proc/self/fd/none', '/backups'].map(mount);
  expect(await staleFiles(mounts, '/proc/self/fd')).toMatchObject([
    {
      severity: 'warning',
      code: 'CONFIG_STALE',
      message: expect.stringContaining(`/proc/self/fd/${gone} was replaced`),
    },
  ]);
  for (const fd of [gone, there]) closeSync(fd);
  rmSync(directory, { recursive: true });
});
