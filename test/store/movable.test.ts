import { expect, test, vi } from 'vitest';
import { Directory } from '../../src/store/directory.ts';
import { remoteFileSystem } from '../../src/store/file-system.ts';
import { unmovable } from '../../src/store/movable.ts';

vi.mock('../../src/store/file-system.ts', { spy: true });

test.each([
  ['nfs', 'EPERM', /: the nfs file system answers EPERM/, /no_root_squash/],
  ['fuse', 'EACCES', /: the fuse file system answers EACCES/, /allow_other/],
  ['nfs', 'EROFS', /: it is read-only/, /findmnt/],
  [undefined, 'EPERM', /immutable or append-only/, /chattr/],
])('a refusal on a file system of the kind %s, %s, is told as what it is', (kind, code, message, hint) => {
  vi.mocked(remoteFileSystem).mockReturnValue(kind);
  const root = Directory.open('/tmp');
  const error = unmovable(Object.assign(new Error('no'), { code }), root, 'f', 'moved');
  expect(error).toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
  root.close();
});

test('memory and disks are not remote', () => {
  vi.mocked(remoteFileSystem).mockRestore();
  for (const place of ['/proc', '/tmp']) {
    const directory = Directory.open(place);
    expect(remoteFileSystem(directory)).toBeUndefined();
    directory.close();
  }
});
