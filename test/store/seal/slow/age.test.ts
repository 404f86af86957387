import { execFileSync, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decryptAge, encryptAge } from '../../../../src/store/seal/age.ts';
import { scratchBase } from '../../helpers.ts';

/** The program age and the code inside the process read what the other one writes. */

const CHUNK = 65_536;
const SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 17, 3_000_000];

let directory: string;
let identity: string;
let recipient: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(scratchBase, 'age-'));
  identity = execFileSync('age-keygen', { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  recipient = execFileSync('age-keygen', ['-y'], { input: identity, encoding: 'utf8' }).trim();
  writeFileSync(path.join(directory, 'identity'), identity);
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Returns the content in pieces of random sizes, some of them empty. */
function* pieces(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; ) {
    const size = Math.floor(Math.random() ** 3 * 200_000);
    yield content.subarray(at, at + size);
    at += size;
  }
}
const encrypt = (plain: Buffer, to: string[]) => buffer(Readable.from(pieces(plain)).compose(encryptAge(to)));
const decrypt = (sealed: Buffer) => buffer(Readable.from(pieces(sealed)).compose(decryptAge(identity)));
const maxBuffer = 10_000_000;

describe('age inside the process', () => {
  test.each(SIZES)('writes what the program reads, and reads what it writes: %d bytes', async (size) => {
    const plain = randomBytes(size);
    const ours = await encrypt(plain, [recipient]);
    const file = path.join(directory, 'identity');
    expect(execFileSync('age', ['-d', '-i', file], { input: ours, maxBuffer }).equals(plain)).toBe(true);
    const theirs = execFileSync('age', ['-r', recipient], { input: plain, maxBuffer });
    expect(theirs.length).toBe(ours.length);
    expect((await decrypt(theirs)).equals(plain)).toBe(true);
    expect((await decrypt(ours)).equals(plain)).toBe(true);
  });

  test('refuses chunks in another order, as the program does, any cut, and changed bytes anywhere', async () => {
    const sealed = await encrypt(randomBytes(3 * CHUNK), [recipient]);
    const start = sealed.length - 3 * (CHUNK + 16);
    const chunk = (n: number) => sealed.subarray(start + n * (CHUNK + 16), start + (n + 1) * (CHUNK + 16));
    const head = sealed.subarray(0, start);
    const bad = [
      Buffer.concat([head, chunk(1), chunk(0), chunk(2)]),
      Buffer.concat([head, chunk(0), chunk(1)]),
      Buffer.concat([head, chunk(0), chunk(2)]),
      Buffer.concat([sealed, chunk(2)]),
      Buffer.concat([sealed, Buffer.alloc(1)]),
      head,
    ];
    for (const input of bad) {
      const args = ['-d', '-i', path.join(directory, 'identity'), '-o', '/dev/null'];
      expect(spawnSync('age', args, { input }).status).toBe(1);
    }
    for (let i = 0; i < 150; i++) bad.push(sealed.subarray(0, Math.floor(Math.random() * sealed.length)));
    // Every byte of the header and of the first nonce, and some of the payload.
    for (let at = 0; at < sealed.length; at += at < start + 16 ? 1 : 6_553) {
      const changed = Buffer.from(sealed);
      changed[at]! ^= 1 << (at % 8);
      bad.push(changed);
    }
    for (const [i, one] of bad.entries()) {
      const refused = await decrypt(one).then(
        () => undefined,
        (error: { code: string }) => error.code,
      );
      // A changed recipient stanza is none that the key matches.
      expect(['OBJECT_DAMAGED', 'KEY_WRONG'], `number ${i}`).toContain(refused);
    }
  });

  test('fails if a recipient is not a key', async () => {
    await expect(encrypt(Buffer.from('x'), [recipient.replace(/.$/, 'q')])).rejects.toMatchObject({
      code: 'TOOL_FAILED',
    });
  });
});
