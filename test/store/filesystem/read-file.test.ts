import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isAt, readSmall } from '../../../src/store/filesystem/read-file.ts';
import { scratchBase } from '../helpers.ts';

let directory: string;
let file: string;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-read-'));
  file = join(directory, 'file');
});
afterEach(() => rmSync(directory, { recursive: true }));

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

/** Reads `file`. `meanwhile` runs between the first stat call and the read, with the number of the attempt. */
function read(meanwhile: (attempt: number) => void = () => {}, limit = 1000) {
  let attempt = 0;
  return readSmall(Buffer.from(file), limit, (size) => {
    meanwhile(++attempt);
    return new Uint8Array(size);
  });
}

describe('reading a small file', () => {
  test('returns content, hash and the state of the file', () => {
    writeFileSync(file, 'hello');
    expect(read()).toMatchObject({
      outcome: 'read',
      changed: false,
      sha256: sha256('hello'),
      stat: { type: 'file', size: 5 },
    });
  });

  test('that changes once is read again', () => {
    writeFileSync(file, 'hello');
    const result = read((attempt) => attempt === 1 && appendFileSync(file, ' there'));
    expect(result).toMatchObject({
      outcome: 'read',
      changed: false,
      sha256: sha256('hello there'),
      stat: { size: 11 },
    });
  });

  test('that grows each time is flagged, and read up to its first known size', () => {
    writeFileSync(file, 'hello');
    const result = read(() => appendFileSync(file, '+'));
    expect(result).toMatchObject({ outcome: 'read', changed: true, sha256: sha256('hello++') });
  });

  test('that is cut each time is flagged, and never padded with zeros', () => {
    writeFileSync(file, 'hello');
    const result = read((attempt) => truncateSync(file, 5 - attempt));
    expect(result).toMatchObject({ outcome: 'read', changed: true, sha256: sha256('he'), stat: { size: 2 } });
  });

  test('that grows beyond the limit is left to be streamed', () => {
    writeFileSync(file, 'hello');
    expect(read(() => appendFileSync(file, 'x'.repeat(1000)))).toEqual({ outcome: 'large' });
  });

  test('that has become something else is not read, and never blocks', () => {
    expect(read()).toEqual({ outcome: 'vanished' });
    symlinkSync('/etc/passwd', file);
    expect(read()).toEqual({ outcome: 'vanished' });
    rmSync(file);
    execFileSync('mkfifo', [file]);
    expect(read()).toEqual({ outcome: 'vanished' });
    rmSync(file);
    mkdirSync(file);
    expect(read()).toEqual({ outcome: 'vanished' });
  });
});

test('an open file is at a path until it is replaced or removed', () => {
  writeFileSync(file, 'old');
  const fd = openSync(file, 'r');
  try {
    expect(isAt(fd, Buffer.from(file))).toBe(true);
    writeFileSync(`${file}.new`, 'new');
    renameSync(`${file}.new`, file);
    expect(isAt(fd, Buffer.from(file))).toBe(false);
    rmSync(file);
    expect(isAt(fd, Buffer.from(file))).toBe(false);
  } finally {
    closeSync(fd);
  }
});
