import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, expect, test, vi } from 'vitest';
import { unmovable } from '../../../src/store/exchange/movable.ts';
import { Directory } from '../../../src/store/filesystem/directory.ts';
import { remoteFileSystem } from '../../../src/store/filesystem/file-system.ts';

afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
});

test.each([
  ['nfs', 0x6969, 'EPERM', /: the nfs file system answers EPERM/, /no_root_squash/],
  ['fuse', 0x65735546, 'EACCES', /: the fuse file system answers EACCES/, /allow_other/],
  ['smb', 0xfe534d42, 'EPERM', /: the smb file system answers EPERM/, /mount/],
  ['nfs', 0x6969, 'EROFS', /: it is read-only/, /findmnt/],
  ['ext4', 0xef53, 'EPERM', /immutable or append-only/, /chattr/],
])('the error names the reason of a refusal: %s (%i), %s', (_kind, type, code, message, hint) => {
  const root = Directory.open('/tmp');
  vi.spyOn(fs, 'statfsSync').mockReturnValue({ type } as fs.StatsFs);
  syncBuiltinESMExports();
  const error = unmovable(Object.assign(new Error('no'), { code }), root, 'f', 'moved');
  root.close();
  expect(error).toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
});

test('what cannot be deleted may be protected by a flag of a file inside it', () => {
  const root = Directory.open('/tmp');
  const error = unmovable(Object.assign(new Error('no'), { code: 'EPERM' }), root, 'f', 'deleted');
  root.close();
  expect(error).toMatchObject({ hint: expect.stringContaining('`lsattr -aR` shows flags of everything in it') });
});

test('memory and disks are not remote', () => {
  for (const place of ['/proc', '/tmp']) {
    const directory = Directory.open(place);
    expect(remoteFileSystem(directory)).toBeUndefined();
    directory.close();
  }
});
