import { buffer } from 'node:stream/consumers';
import { crc32 } from 'node:zlib';
import { ZipArchive } from 'archiver';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ZipHeaders } from '../../../../src/store/packs/zip.ts';

interface File {
  name: string;
  content: Buffer;
  ms: number;
}

function ownZip(files: File[]): Buffer {
  const zip = new ZipHeaders();
  const parts = files.flatMap(({ name, content, ms }) => {
    const mtime = BigInt(ms) * 1_000_000n;
    return [zip.before(name, mtime, { size: content.length, crc32: crc32(content) }), content];
  });
  const whole = Buffer.concat([...parts, zip.end()]);
  expect(zip.size).toBe(whole.length);
  return whole;
}

function libraryZip(files: File[]): Promise<Buffer> {
  const archive = new ZipArchive({ store: true, forceZip64: true });
  for (const { name, content, ms } of files) archive.append(content, { name, date: new Date(ms) });
  archive.finalize();
  return buffer(archive);
}

const file = fc.record({
  name: fc.oneof(
    fc.stringMatching(/^[a-z0-9_-][a-z0-9._-]{0,12}(\/[a-z0-9 -]{1,9})?$/),
    fc.constantFrom('ä/ö.jpg', '写真.png', 'a 🚀'),
  ),
  content: fc.uint8Array({ minLength: 1, maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  ms: fc.integer({ min: 0, max: Date.UTC(2050, 0) }),
});

test('a zip equals that of a library, byte for byte', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(file, { maxLength: 6 }), async (files) => {
      expect(ownZip(files).equals(await libraryZip(files))).toBe(true);
    }),
    { numRuns: 200 },
  );
});
