import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { kindInContainer, readContainerFile } from '../../src/docker/container-file.ts';

/** One member of a tar archive. */
function member(name: string, type: string, content: string | Buffer = '', link = '', size?: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  const bytes = Buffer.from(content);
  header.write((size ?? bytes.length).toString(8).padStart(11, '0'), 124);
  header.write(type, 156);
  header.write(link, 157);
  return Buffer.concat([header, bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

/** An engine with these files, which it sends in pieces of a few bytes. */
function engineWith(files: Record<string, Buffer>) {
  return {
    async archive(_id: string, path: string) {
      const content = files[path];
      if (!content) {
        const cause = Object.assign(new Error('no such file'), { statusCode: 404 });
        throw new LifeboatError('ENGINE_REFUSED', 'no such file', { cause });
      }
      return Readable.from(
        Array.from({ length: Math.ceil(content.length / 100) }, (_, i) => content.subarray(i * 100, i * 100 + 100)),
      );
    },
  };
}
const read = async (files: Record<string, Buffer>, path = '/run/secrets/pw') =>
  (await readContainerFile(engineWith(files), 'x', path, { limit: 1000 }))?.toString();

test('reads a file, also after records with its long name', async () => {
  expect(await read({ '/run/secrets/pw': member('pw', '0', 's3cret\n') })).toBe('s3cret\n');
  const long = Buffer.concat([member('x', 'x', '11 a=bcdef\n'), member('pw', '0', 'x'.repeat(700))]);
  expect(await read({ '/run/secrets/pw': long })).toBe('x'.repeat(700));
});
test('follows links inside the container, but not forever', async () => {
  const file = member('pw', '0', 'linked');
  expect(await read({ '/run/secrets/pw': member('pw', '2', '', '..data/pw'), '/run/secrets/..data/pw': file })).toBe(
    'linked',
  );
  expect(await read({ '/run/secrets/pw': member('pw', '2', '', '/else'), '/else': file })).toBe('linked');
  expect(await read({ '/run/secrets/pw': member('pw', '2', '', 'pw') })).toBeUndefined();
});
test('returns nothing for missing files and files that are not regular', async () => {
  expect(await read({})).toBeUndefined();
  for (const type of ['5', '6', '3', '1'])
    expect(await read({ '/run/secrets/pw': member('pw', type) })).toBeUndefined();
});
test('distinguishes a directory, a file, and anything else', async () => {
  const files = {
    '/data': member('data/', '5'),
    '/etc/localtime': member('localtime', '2', '', '../usr/zone'),
    '/usr/zone': member('zone', '0', 'TZif2'),
    '/dev/null': member('null', '3'),
    // The archive of a socket is empty.
    '/run/bus': Buffer.alloc(1024),
  };
  const kinds = Object.keys(files).map((path) => kindInContainer(engineWith(files), 'x', path));
  expect(await Promise.all(kinds)).toEqual(['directory', 'file', 'file', 'other', 'other']);
  expect(await kindInContainer(engineWith(files), 'x', '/gone')).toBeUndefined();
  expect(await read({ '/run/secrets/pw': Buffer.alloc(1024) })).toBeUndefined();
});
test('rejects large and incomplete files', async () => {
  await expect(read({ '/run/secrets/pw': member('pw', '0', '', '', 2000) })).rejects.toThrow(/larger than/);
  await expect(read({ '/run/secrets/pw': member('pw', 'x', '', '', 1e9) })).rejects.toThrow(/larger than/);
  await expect(read({ '/run/secrets/pw': member('pw', '0', 'short', '', 900) })).rejects.toThrow(/incomplete/);
});
