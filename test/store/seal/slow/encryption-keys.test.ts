import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import { isSealedWith, keyId, requireKeys } from '../../../../src/store/seal/encryption.ts';
import { seal, unseal } from '../../../../src/store/seal/seal.ts';

/** For gpg see encryption.test.ts. */

const one = ageKey();
const two = ageKey();

function ageKey(): { identity: string; recipient: string } {
  const identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return { identity, recipient: execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim() };
}

async function sealed(content: Buffer, keys: SealKeys, compress = false): Promise<{ stored: Buffer; name: string }> {
  const { stream, suffix } = seal(Readable.from([content]), { compress, keys });
  return { stored: await buffer(stream), name: `x${suffix}` };
}
const opened = (stored: Buffer, name: string, keys: SealKeys) => buffer(unseal(Readable.from([stored]), name, keys));

const content = randomBytes(300_000);

describe('age', () => {
  const write: SealKeys = { ageRecipients: [one.recipient, two.recipient] };

  test('encrypts to several recipients, each of whom can decrypt', async () => {
    for (const [plain, compress] of [
      [content, false],
      [Buffer.alloc(0), true],
      [Buffer.alloc(1_000_000, 'abc'), true],
    ] as const) {
      const { stored, name } = await sealed(plain, write, compress);
      expect(name).toBe(compress ? 'x.zst.age' : 'x.age');
      expect(stored.subarray(0, 21).toString()).toBe('age-encryption.org/v1');
      for (const { identity } of [one, two])
        expect((await opened(stored, name, { ageIdentity: identity })).equals(plain)).toBe(true);
    }
  });

  test('a missing or wrong key is distinguished from damage', async () => {
    const { stored, name } = await sealed(content, { ageRecipients: [one.recipient] });
    expect(() => unseal(Readable.from([stored]), name, write)).toThrow(
      expect.objectContaining({ code: 'KEY_MISSING' }),
    );
    await expect(opened(stored, name, { ageIdentity: two.identity })).rejects.toMatchObject({ code: 'KEY_WRONG' });
    // Input that age no longer reads must not hide its message.
    for (let i = 0; i < 3; i++) {
      const long = Buffer.concat([stored, randomBytes(8_000_000)]);
      await expect(opened(long, name, { ageIdentity: two.identity })).rejects.toMatchObject({ code: 'KEY_WRONG' });
    }
    const several = { ageIdentity: `${two.identity}\n${one.identity}` };
    expect((await opened(stored, name, several)).equals(content)).toBe(true);
    const flipped = Buffer.from(stored);
    flipped[stored.length >> 1]! ^= 1;
    for (const bad of [flipped, stored.subarray(0, -1), stored.subarray(0, 100), Buffer.alloc(0), content])
      await expect(opened(bad, name, several)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });
});

test('a missing program is not reported as damage', async () => {
  const { stored, name } = await sealed(content, { gpgPassphrase: 'passphrase' });
  const { PATH } = process.env;
  process.env.PATH = mkdtempSync(path.join(tmpdir(), 'bash-alone-'));
  try {
    for (const program of ['bash', 'cat']) symlinkSync(`/usr/bin/${program}`, path.join(process.env.PATH, program));
    await expect(opened(stored, name, { gpgPassphrase: 'passphrase' })).rejects.toMatchObject({ code: 'TOOL_FAILED' });
  } finally {
    rmSync(process.env.PATH, { recursive: true });
    process.env.PATH = PATH;
  }
});

test('nothing is stored unencrypted if a key is set', () => {
  const options = { compress: true, keys: { ageIdentity: one.identity } };
  expect(() => seal(Readable.from(['x']), options)).toThrow(expect.objectContaining({ code: 'SETTING_INVALID' }));
});

test('keys have ids that identify their packs', () => {
  const id = keyId({ ageRecipients: [one.recipient, two.recipient] });
  expect(id).toMatch(/^[0-9a-f]{8}$/);
  expect(keyId({ ageRecipients: [two.recipient, one.recipient], ageIdentity: one.identity })).toBe(id);
  expect(keyId({ ageRecipients: [one.recipient] })).not.toBe(id);
  expect(keyId({ gpgPassphrase: 'a' })).not.toBe(keyId({ gpgPassphrase: 'b' }));
  expect(isSealedWith({}, {})).toBe(true);
  expect(isSealedWith({}, { ageRecipients: [one.recipient] })).toBe(false);
  const needs = (key: string, keys: SealKeys) => () => requireKeys([undefined, { key }], keys);
  expect(needs('a.zip', {})).not.toThrow();
  expect(needs('a.zip.age', { ageIdentity: one.identity })).not.toThrow();
  expect(needs('a.zip.gpg', { ageIdentity: one.identity })).toThrow(expect.objectContaining({ code: 'KEY_MISSING' }));
});
