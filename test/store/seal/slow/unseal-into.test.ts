import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import { seal, unsealInto } from '../../../../src/store/seal/seal.ts';
import { scratchBase } from '../../helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-unseal-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const ageIdentity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
const recipient = execFileSync('age-keygen', ['-y'], { input: ageIdentity, encoding: 'utf8' }).trim();
const AGE: SealKeys = { ageRecipients: [recipient], ageIdentity };
const GPG: SealKeys = { gpgPassphrase: 'correct horse' };
const KINDS: [string, boolean, SealKeys][] = [
  ['plain', false, {}],
  ['compressed', true, {}],
  ['encrypted', false, AGE],
  ['compressed and encrypted', true, AGE],
];

async function sealed(content: Buffer, compress: boolean, keys: SealKeys = {}) {
  const { stream, suffix } = seal(Readable.from([content]), { compress, keys });
  return { stored: await buffer(stream), name: `x${suffix}` };
}

/** Resolves to the content of the file. */
async function unsealed(
  input: Buffer | Readable,
  name: string,
  { keys = {}, maxSize, file = path.join(root, 'file') }: { keys?: SealKeys; maxSize?: number; file?: string } = {},
): Promise<Buffer> {
  const handle = await open(file, 'w');
  try {
    await unsealInto(input instanceof Readable ? input : Readable.from([input]), name, keys, { handle, maxSize });
  } finally {
    await handle.close();
  }
  return readFileSync(file);
}

describe('unsealing into a file', () => {
  test.each(KINDS)('is the inverse of sealing: %s', async (_, compress, keys) => {
    for (const content of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(3_000_000, 'abc'), randomBytes(300_000)]) {
      const { stored, name } = await sealed(content, compress, keys);
      expect((await unsealed(stored, name, { keys, maxSize: content.length })).equals(content)).toBe(true);
      expect((await unsealed(stored, name, { keys })).equals(content)).toBe(true);
    }
  });

  test.each(KINDS)('writes no more than the largest size: %s', async (_, compress, keys) => {
    const { stored, name } = await sealed(Buffer.alloc(20_000_000, 'abc'), compress, keys);
    for (const maxSize of [0, 2_000_000, 19_999_999]) {
      await expect(unsealed(stored, name, { keys, maxSize }), String(maxSize)).rejects.toMatchObject({
        code: 'OBJECT_DAMAGED',
        message: `${name} unpacks to more than it should`,
      });
      expect(readFileSync(path.join(root, 'file')).length).toBeLessThanOrEqual(Math.max(maxSize, 1024 ** 2) + 1);
    }
  });

  test('is the inverse of sealing with gpg, whose own files are larger than a small content', async () => {
    for (const content of [Buffer.from('x'), Buffer.alloc(3_000_000, 'abc')]) {
      const { stored, name } = await sealed(content, false, GPG);
      const found = await unsealed(stored, name, { keys: GPG, maxSize: content.length });
      expect(found.equals(content)).toBe(true);
    }
  });

  test('truncated, changed, extended and empty input is an error', async () => {
    const content = Buffer.alloc(500_000, 'some text to compress ');
    const { stored, name } = await sealed(content, true);
    const flipped = Buffer.from(stored);
    flipped[stored.length >> 1]! ^= 1;
    const tail = Buffer.concat([stored, Buffer.from('tail')]);
    for (const input of [stored.subarray(0, -1), stored.subarray(0, 10), flipped, tail, Buffer.alloc(0)]) {
      const failing = unsealed(input, name, { maxSize: content.length + 1 });
      await expect(failing).rejects.toMatchObject({
        code: 'OBJECT_DAMAGED',
        message: 'an object cannot be decompressed',
      });
    }
  });

  test('a wrong key is an error, also if another program reads what it decrypts', async () => {
    for (const compress of [true, false]) {
      const { stored, name } = await sealed(Buffer.alloc(500_000, 'text '), compress, GPG);
      const keys = { gpgPassphrase: 'wrong' };
      await expect(unsealed(stored, name, { keys, maxSize: 500_000 })).rejects.toMatchObject({ code: 'KEY_WRONG' });
    }
  });

  test.each(['x.zst', 'x', 'x.gpg'])('a failing input is the error: %s', async (name) => {
    for (const destroy of [(s: PassThrough) => s.destroy(new Error('boom')), (s: PassThrough) => s.destroy()]) {
      const input = new PassThrough();
      input.write((await sealed(randomBytes(300_000), true)).stored.subarray(0, 200_000));
      setTimeout(() => destroy(input), 10);
      await expect(unsealed(input, name, { keys: GPG })).rejects.toThrow(/boom|[Pp]remature/);
    }
  });

  test.each([...KINDS, ['encrypted with gpg', false, GPG] as const])(
    'a full disk is its own error: %s',
    async (_, compress, keys) => {
      const { stored, name } = await sealed(Buffer.alloc(500_000, 'text '), compress, keys);
      for (const limit of [{}, { maxSize: 500_000 }])
        await expect(unsealed(stored, name, { keys, ...limit, file: '/dev/full' })).rejects.toMatchObject({
          code: 'ENOSPC',
        });
    },
  );

  test('a missing program is reported by its name', async () => {
    const { stored, name } = await sealed(Buffer.from('x'), true);
    const before = process.env.PATH;
    process.env.PATH = root;
    try {
      const expectMissing = (limit: object, program: string) =>
        expect(unsealed(stored, name, limit)).rejects.toMatchObject({
          code: 'TOOL_FAILED',
          message: expect.stringContaining(program),
        });
      await expectMissing({}, 'zstd');
      await expectMissing({ maxSize: 10 }, 'prlimit');
      symlinkSync('/usr/bin/prlimit', path.join(root, 'prlimit'));
      await expectMissing({ maxSize: 10 }, 'zstd');
    } finally {
      process.env.PATH = before;
    }
  });
});
