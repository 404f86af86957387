import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { chmodSync, constants, mkdtempSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openPastCache, readPastCache, streamPastCache } from '../../src/destinations/direct-read.ts';
import { hashFile } from '../../src/destinations/hash-file.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';

/** On the disk of the sources: the directory for temporary files may be in memory. */
const disk = join(import.meta.dirname, '..', '..');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(disk, '.direct-read-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function write(content: Buffer): string {
  const file = join(root, `file-${content.length}`);
  writeFileSync(file, content);
  const fd = openSync(file, 'r+');
  fs.fsyncSync(fd);
  fs.closeSync(fd);
  return file;
}

async function read(file: string) {
  let pieces: Buffer[] = [];
  const direct = await readPastCache(
    file,
    (piece) => void pieces.push(Buffer.from(piece)),
    () => {
      pieces = [];
    },
  );
  return { direct, content: Buffer.concat(pieces) };
}

const stream = async (file: string) => buffer(streamPastCache(await openPastCache(file, constants.O_RDONLY)));

/** Bytes that this process has had the disks read. */
const fromDisk = () => Number(/^read_bytes: (\d+)$/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1]);

/** False on file systems without direct reads, where there is nothing to test. */
function supports(): boolean {
  try {
    fs.closeSync(openSync(write(Buffer.alloc(1)), constants.O_RDONLY | constants.O_DIRECT));
    return true;
  } catch {
    return false;
  }
}

test('reads every size, to the last byte', async () => {
  const mib = 1024 * 1024;
  for (const size of [0, 1, 511, 512, 4095, 4096, 4097, mib - 1, mib, mib + 1, 3 * mib + 4096, 3 * mib + 12_345]) {
    const content = randomBytes(size);
    const { direct, content: back } = await read(write(content));
    expect(back.equals(content), String(size)).toBe(true);
    expect(direct).toBe(supports());
    expect((await stream(write(content))).equals(content), String(size)).toBe(true);
  }
});

test('reads the disk, although the content is in memory, or says that it cannot', async () => {
  const isDirect = supports();
  const file = write(randomBytes(8 * 1024 * 1024));
  const before = fromDisk();
  readFileSync(file);
  const cached = fromDisk() - before;
  expect((await read(file)).direct).toBe(isDirect);
  if (isDirect) expect(fromDisk() - before - cached).toBeGreaterThanOrEqual(8 * 1024 * 1024);
});

test('an object is read from the disk on request, as `check` does', async () => {
  if (!supports()) return;
  const destination = createLocalDestination({ root });
  const content = randomBytes(8 * 1024 * 1024);
  await destination.put('a/b', Readable.from([content]));
  const before = fromDisk();
  expect((await buffer(await destination.get('a/b'))).equals(content)).toBe(true);
  const cached = fromDisk() - before;
  expect((await buffer(await destination.get('a/b', { fromDisk: true }))).equals(content)).toBe(true);
  expect(fromDisk() - before - cached).toBeGreaterThanOrEqual(8 * 1024 * 1024);
  await expect(destination.get('a/c', { fromDisk: true })).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
});

test('a file without direct reads is streamed through the cache', async () => {
  expect((await stream('/proc/version')).toString()).toBe(readFileSync('/proc/version', 'utf8'));
  await expect(stream(join(root, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
});

// Small files are hashed in this thread, large ones in another.
test.each([5000, 5_000_001])(
  'the hash of %i bytes is right, and a failure is the error of the system',
  async (length) => {
    const content = randomBytes(length);
    const sha256 = createHash('sha256').update(content).digest('hex');
    const file = write(content);
    expect(await hashFile(file)).toEqual({ size: length, sha256, direct: supports() });
    await expect(hashFile(join(root, 'none'))).rejects.toMatchObject({ code: 'ENOENT' });
    symlinkSync(file, join(root, 'link'));
    await expect(hashFile(join(root, 'link'))).rejects.toMatchObject({ code: 'ELOOP' });
    if (process.getuid?.() !== 0) {
      chmodSync(file, 0);
      await expect(hashFile(file)).rejects.toMatchObject({ code: 'EACCES' });
    }
  },
);

test('files that are hashed at the same time do not mix', async () => {
  const contents = [1, 5000, 1_500_000, 3_000_000, 6_000_000].map((size) => randomBytes(size));
  const hashed = await Promise.all(contents.map((content) => hashFile(write(content))));
  const expected = contents.map((content) => createHash('sha256').update(content).digest('hex'));
  expect(hashed.map(({ sha256 }) => sha256)).toEqual(expected);
});

test('a file system without direct reads is read through the cache, and that is said', async () => {
  // Files of the kernel are read whole, and cannot be read directly.
  const { direct, size } = await hashFile('/proc/version');
  expect(direct).toBe(false);
  expect(size).toBe(readFileSync('/proc/version').length);
});
