import { randomBytes } from 'node:crypto';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { describe, expect, test } from 'vitest';
import { throughProgram } from '../../../src/store/seal/program.ts';
import { isPlain, seal, unseal } from '../../../src/store/seal/seal.ts';

const compressed = (content: Buffer) => buffer(seal(Readable.from([content]), { compress: true, keys: {} }).stream);

describe('seal and unseal', () => {
  test('are inverses, and the suffix names the steps', async () => {
    for (const content of [Buffer.alloc(0), Buffer.from('x'), Buffer.alloc(3_000_000, 'abc'), randomBytes(1_000_000)]) {
      for (const compress of [true, false]) {
        const sealed = seal(Readable.from([content]), { compress, keys: {} });
        const stored = await buffer(sealed.stream);
        expect(sealed.suffix).toBe(compress ? '.zst' : '');
        expect((await buffer(unseal(Readable.from([stored]), `x${sealed.suffix}`, {}))).equals(content)).toBe(true);
      }
    }
    expect(isPlain('a.zip')).toBe(true);
    expect(isPlain('a.zip.zst')).toBe(false);
  });

  test('truncated, changed, extended and empty input is an error', async () => {
    const stored = await compressed(Buffer.alloc(500_000, 'some text to compress '));
    const flipped = Buffer.from(stored);
    flipped[stored.length >> 1]! ^= 1;
    const bad = [
      stored.subarray(0, -1),
      stored.subarray(0, 10),
      flipped,
      Buffer.concat([stored, Buffer.from('tail')]),
      Buffer.alloc(0),
    ];
    for (const [i, input] of bad.entries()) {
      await expect(buffer(unseal(Readable.from([input]), 'x.zst', {})), String(i)).rejects.toMatchObject({
        code: 'OBJECT_DAMAGED',
      });
    }
  });

  test('a failing input is an error, never a short output', async () => {
    for (const destroy of [(s: PassThrough) => s.destroy(new Error('boom')), (s: PassThrough) => s.destroy()]) {
      const input = new PassThrough();
      input.write(randomBytes(300_000));
      setTimeout(() => destroy(input), 10);
      await expect(buffer(seal(input, { compress: true, keys: {} }).stream)).rejects.toThrow(/boom|[Pp]remature/);
    }
  });

  test('destroying the result ends the program and the input', async () => {
    const input = new Readable({ read() {} });
    input.push(randomBytes(1_000_000));
    const { stream } = seal(input, { compress: true, keys: {} });
    await new Promise((resolve) => setTimeout(resolve, 20));
    stream.destroy();
    await new Promise((resolve) => stream.once('close', resolve));
    expect(input.destroyed).toBe(true);
  });

  test('a missing program is reported, and the error of a failing one has the end of its stderr', async () => {
    const failure = () => ({ code: 'TOOL_FAILED', message: 'it failed' }) as const;
    const missing = throughProgram(Readable.from(['x']), { command: 'no-such-program', args: [], failure });
    await expect(buffer(missing)).rejects.toMatchObject({
      code: 'TOOL_FAILED',
      message: expect.stringContaining('no-such-program'),
    });
    const failing = throughProgram(Readable.from(['x']), {
      command: 'sh',
      args: ['-c', 'cat; echo no >&2; exit 3'],
      failure,
    });
    await expect(buffer(failing)).rejects.toMatchObject({
      message: 'it failed',
      cause: { message: 'sh ended with status 3: no' },
    });
    const killed = throughProgram(Readable.from(['x']), { command: 'sh', args: ['-c', 'cat; kill -9 $$'], failure });
    await expect(buffer(killed)).rejects.toMatchObject({ cause: { message: expect.stringContaining('SIGKILL') } });
  });
});
