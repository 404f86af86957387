import { createHash, hash } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import type { CutBytes } from '../../../../src/store/chunks/chunk-window.ts';
import { CutThread } from '../../../../src/store/chunks/cut-thread.ts';
import { ChunkCutter, type Cutter } from '../../../../src/store/chunks/cutter.ts';
import { noise, sizesOf } from '../chunks.ts';

const MIB = 1024 * 1024;
const threads: CutThread[] = [];

afterEach(async () => {
  for (const thread of threads.splice(0)) await thread.close();
});

function startThread(): CutThread {
  const thread = new CutThread();
  threads.push(thread);
  return thread;
}

const CUTTERS: [string, () => Cutter][] = [
  ['this thread', () => new ChunkCutter()],
  ['a thread of its own', startThread],
];

/** Cuts one range. The pieces have the given sizes in turns, and lie in one buffer, which is overwritten. */
async function cutRange(cutter: Cutter, bytes: Buffer, sizes: number[]) {
  const cuts: { size: number; sha256: string; content: Buffer }[] = [];
  const keep = (more: CutBytes[]) => {
    cuts.push(...more.map(({ size, sha256, bytes }) => ({ size, sha256, content: Buffer.from(bytes()) })));
  };
  const piece = Buffer.alloc(Math.max(...sizes));
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const length = bytes.copy(piece, 0, at, at + sizes[i % sizes.length]!);
    keep(await cutter.add(piece.subarray(0, length)));
    at += length;
  }
  keep(await cutter.endRange());
  return cuts;
}

test.each(CUTTERS)('%s cuts a file after the other, whatever pieces they arrive in', async (_, create) => {
  const cutter = create();
  const shapes = [[4 * MIB], [MIB], [65_536], [MIB, 1, 3 * MIB + 7, 511], [MIB - 1]];
  for (const [i, sizes] of shapes.entries()) {
    const bytes = noise(9 * MIB + i * 12_345, `file ${i}`);
    const cuts = await cutRange(cutter, bytes, sizes);
    expect(cuts.map(({ size }) => size)).toEqual(sizesOf(bytes));
    expect(cuts.every(({ sha256, content }) => sha256 === hash('sha256', content))).toBe(true);
    expect(Buffer.concat(cuts.map(({ content }) => content)).equals(bytes)).toBe(true);
    expect(await cutter.finish('')).toBe(hash('sha256', bytes));
  }
});

test.each(CUTTERS)('%s ends a chunk where a range ends, and forgets a file that is given up', async (_, create) => {
  const cutter = create();
  await cutter.add(noise(3 * MIB, 'given up'));
  await cutter.reset();
  const whole = createHash('sha256');
  for (const size of [1, 5 * MIB, 300_000, 0, 2 * MIB]) {
    const bytes = noise(size, `range ${size}`);
    const cuts = await cutRange(cutter, bytes, [700_001]);
    expect(cuts.map((cut) => cut.size)).toEqual(size === 0 ? [] : sizesOf(bytes));
    expect(Buffer.concat(cuts.map(({ content }) => content)).equals(bytes)).toBe(true);
    whole.update(bytes);
  }
  expect(await cutter.finish('the ranges')).toBe(whole.update('the ranges').digest('hex'));
});

test('a thread that ends early fails each call, and none waits for ever', async () => {
  const thread = startThread();
  await thread.add(noise(MIB, 'before'));
  await thread.close();
  await expect(cutRange(thread, noise(9 * MIB, 'after'), [MIB])).rejects.toThrow('ended early');
  await expect(thread.reset()).rejects.toThrow('ended early');
});
