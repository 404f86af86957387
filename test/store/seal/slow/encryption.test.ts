import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { SealKeys } from '../../../../src/plan/seal-keys.ts';
import { checkKeys, seal, unseal } from '../../../../src/store/seal/seal.ts';
import { LONG_WAIT } from '../../../harness/wait.ts';

/** Uses the real gpg, which is slow to derive a key from a passphrase. */

const PASSPHRASE = 'canary correct horse';
const content = randomBytes(300_000);
let publicKeys: string;
let privateKey: string;

const homes = () => readdirSync('/dev/shm').filter((name) => name.startsWith('lifeboat-gpg-'));
/** Homes of parallel tests come and go; a leftover home stays for ever. */
const noHomes = () => vi.waitFor(() => expect(homes()).toEqual([]), LONG_WAIT);

beforeAll(() => {
  const home = mkdtempSync('/dev/shm/test-gpg-');
  const always = ['--homedir', home, '--batch', '--pinentry-mode', 'loopback', '--passphrase', PASSPHRASE];
  const gpg = (...args: string[]) =>
    execFileSync('gpg', [...always, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  for (const name of ['one', 'two']) gpg('--quick-generate-key', `${name}@example.com`, 'future-default');
  publicKeys = gpg('--armor', '--export', 'one@example.com') + gpg('--armor', '--export', 'two@example.com');
  privateKey = gpg('--armor', '--export-secret-keys', 'two@example.com');
  execFileSync('gpgconf', ['--homedir', home, '--kill', 'all']);
  rmSync(home, { recursive: true });
});
// Private keys are in these homes while they are used.
afterAll(noHomes);

async function sealed(plain: Buffer, keys: SealKeys, compress = false): Promise<{ stored: Buffer; name: string }> {
  const { stream, suffix } = seal(Readable.from([plain]), { compress, keys });
  return { stored: await buffer(stream), name: `x${suffix}` };
}
const opened = async (stored: Buffer, name: string, keys: SealKeys) =>
  buffer(unseal(Readable.from([stored]), name, keys));

describe('gpg', () => {
  test('with a passphrase', async () => {
    const keys = { gpgPassphrase: PASSPHRASE };
    const { stored, name } = await sealed(content, keys, true);
    expect(name).toBe('x.zst.gpg');
    // A version 4 packet for the key derivation, which every OpenPGP program reads.
    expect([stored[0], stored[2]]).toEqual([0x8c, 4]);
    expect((await opened(stored, name, keys)).equals(content)).toBe(true);
    await expect(opened(stored, name, { gpgPassphrase: 'wrong' })).rejects.toMatchObject({ code: 'KEY_WRONG' });
    const flipped = Buffer.from(stored);
    flipped[stored.length >> 1]! ^= 1;
    for (const bad of [flipped, stored.subarray(0, -1)])
      await expect(opened(bad, name, keys)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('to several recipients; one private key decrypts', async () => {
    const { stored, name } = await sealed(content, { gpgRecipients: publicKeys });
    expect(name).toBe('x.gpg');
    const keys = { gpgPrivateKey: privateKey, gpgPassphrase: PASSPHRASE };
    expect((await opened(stored, name, keys)).equals(content)).toBe(true);
    const bad = [
      [{ gpgRecipients: publicKeys }, 'KEY_MISSING'],
      [{ gpgPassphrase: PASSPHRASE }, 'KEY_MISSING'],
      [{ gpgPrivateKey: privateKey }, 'KEY_WRONG'],
      [{ gpgPrivateKey: privateKey, gpgPassphrase: 'wrong' }, 'KEY_WRONG'],
    ] as const;
    const broken = (key: string) => key.replace(/\n\n[\s\S]{40}/, '\n\n');
    await expect(opened(stored, name, { gpgPrivateKey: broken(privateKey) })).rejects.toMatchObject({
      code: 'KEY_WRONG',
    });
    await expect(checkKeys({ gpgRecipients: publicKeys })).resolves.toBeUndefined();
    await expect(checkKeys({ gpgRecipients: broken(publicKeys) })).rejects.toMatchObject({ code: 'SETTING_INVALID' });
    for (const [given, code] of bad) await expect(opened(stored, name, given)).rejects.toMatchObject({ code });
  });
});

test('no secret is in the arguments or the environment of a child', async () => {
  const { stored, name } = await sealed(content, { gpgPassphrase: PASSPHRASE });
  process.env.LIFEBOAT_GPG_PASSPHRASE = PASSPHRASE;
  try {
    const held = new PassThrough();
    const stream = unseal(held, name, { gpgPassphrase: PASSPHRASE });
    // Its input stays open, so it keeps running while the test inspects it.
    held.write(stored.subarray(0, 1000));
    let seen: string[] = [];
    await vi.waitFor(() => {
      seen = children(process.pid).map((pid) => readProc(pid, 'cmdline') + readProc(pid, 'environ'));
      expect(seen).toContainEqual(expect.stringMatching(/^gpg\0/));
    }, LONG_WAIT);
    expect(seen.filter((text) => text.includes(PASSPHRASE))).toEqual([]);
    stream.destroy();
    await new Promise((resolve) => stream.once('close', resolve));
  } finally {
    delete process.env.LIFEBOAT_GPG_PASSPHRASE;
  }
  await noHomes();
});

function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    // It has ended.
    return '';
  }
}

function children(pid: number): number[] {
  const own = readProc(pid, `task/${pid}/children`).trim().split(' ').filter(Boolean).map(Number);
  return own.flatMap((child) => [child, ...children(child)]);
}
