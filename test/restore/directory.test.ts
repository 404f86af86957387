import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Mount } from '../../src/plan/model.ts';
import { checkTargetDirectory } from '../../src/restore/directory.ts';

let root: string;
let mounts: Mount[];
beforeAll(() => {
  root = realpathSync(mkdtempSync(path.join(tmpdir(), 'lifeboat-target-')));
  for (const name of ['restored', 'backups', 'own', 'fixed']) mkdirSync(path.join(root, name));
  symlinkSync('../backups', path.join(root, 'restored', 'link'));
  symlinkSync('../own', path.join(root, 'restored', 'out'));
  const bind = (name: string, writable = true): Mount => ({
    type: 'bind',
    source: `/host/${name}`,
    destination: path.join(root, name),
    writable,
  });
  mounts = [bind('restored'), bind('backups'), bind('fixed', false)];
});
afterAll(() => rmSync(root, { recursive: true }));

const check = (name: string) =>
  checkTargetDirectory(path.join(root, name), mounts, [
    { directory: path.join(root, 'backups'), holds: 'the backups' },
  ]);

test.each(['restored', 'restored/media', 'restored/a/b', 'restored/../restored/x', 'restored/backups'])(
  '%s is a valid target',
  async (name) => {
    await expect(check(name)).resolves.toBeUndefined();
  },
);

test.each([
  ['own', "container's own disk"],
  ['own/a', "container's own disk"],
  ['restored/../own', "container's own disk"],
  ['restored/out/a', "container's own disk"],
  ['fixed/a', 'read-only'],
  ['backups', 'the backups'],
  ['backups/shop', 'the backups'],
  ['restored/link', 'the backups'],
  ['restored/link/a', 'the backups'],
  ['.', 'the backups'],
])('%s is refused: %s', async (name, why) => {
  await expect(check(name)).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringContaining(why),
    hint: expect.any(String),
  });
});
