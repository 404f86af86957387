import { randomFillSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** How many files of which sizes: the shape of an app's media directory. */
const SIZES = [
  { share: 0.6, from: 2_000, to: 40_000 },
  { share: 0.3, from: 40_000, to: 160_000 },
  { share: 0.099, from: 160_000, to: 600_000 },
  { share: 0.001, from: 4_000_000, to: 24_000_000 },
];

const PER_DIRECTORY = 200;

/** Where the n-th file is, relative to the tree. */
export function fileName(n: number): string {
  return path.join(`d${String(Math.floor(n / PER_DIRECTORY)).padStart(3, '0')}`, `photo-${n}.jpg`);
}

function sizeOf(n: number, count: number): number {
  let below = 0;
  for (const { share, from, to } of SIZES) {
    const until = below + share;
    const at = n / count;
    if (at < until) return Math.round(from + ((to - from) * (at - below)) / share);
    below = until;
  }
  return SIZES[0]!.from;
}

/** The n-th of `count` files gets a size by a fixed shuffle, so that sizes are mixed in every directory. */
function shuffledSize(n: number, count: number): number {
  return sizeOf((n * 7_919) % count, count);
}

/** Makes `count` files of random bytes, 90 KB on average. Returns the bytes written. */
export function makeFiles(root: string, count: number): number {
  let bytes = 0;
  for (let n = 0; n < count; n++) bytes += writeFile(root, n, count);
  return bytes;
}

/** Gives every hundredth file new content of the same size; `round` says which. */
export function changeFiles(root: string, count: number, round: number): void {
  for (let n = round % 100; n < count; n += 100) writeFile(root, n, count);
}

const random = Buffer.alloc(24_000_000);

function writeFile(root: string, n: number, count: number): number {
  const file = path.join(root, fileName(n));
  const content = randomFillSync(random, 0, shuffledSize(n, count)).subarray(0, shuffledSize(n, count));
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, content);
  return content.length;
}
