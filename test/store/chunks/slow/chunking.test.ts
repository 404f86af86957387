import { hash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MAX_CHUNK, MIN_CHUNK } from '../../../../src/store/chunks/chunking.ts';
import { chunksOf, noise, sizesOf } from '../chunks.ts';

const MIB = 1024 * 1024;
const data = noise(24 * MIB, 'edited');
const known = new Set(chunksOf(data).map((chunk) => hash('sha256', chunk)));

/** The chunks of an edited file that the original does not have. */
const newChunks = (edited: Buffer) => chunksOf(edited).filter((chunk) => !known.has(hash('sha256', chunk)));

const place = fc.integer({ min: 0, max: data.length - 1 });
const length = fc.oneof(fc.constantFrom(1, 2, 31, 32, 33, 4096), fc.integer({ min: 1, max: 200_000 }));

test('chunks have the promised sizes, and about 1 MiB on average', () => {
  const sizes = sizesOf(noise(128 * MIB, 'average'));
  for (const size of sizes.slice(0, -1)) {
    expect(size).toBeGreaterThan(MIN_CHUNK);
    expect(size).toBeLessThanOrEqual(MAX_CHUNK);
  }
  expect(sizes.length).toBeGreaterThan(120);
  expect(sizes.length).toBeLessThan(165);
});

// An edit changes the chunk that it is in, and the next ones until an end is the same again: rarely more than two.
const FEW = 7;

test('most chunks survive an insertion anywhere', () => {
  fc.assert(
    fc.property(place, length, (at, added) => {
      const edited = Buffer.concat([data.subarray(0, at), noise(added, `${at}`), data.subarray(at)]);
      expect(newChunks(edited).length).toBeLessThanOrEqual(FEW);
    }),
    { numRuns: 25, seed: 7 },
  );
});

test('most chunks survive a deletion anywhere', () => {
  fc.assert(
    fc.property(place, length, (at, removed) => {
      const edited = Buffer.concat([data.subarray(0, at), data.subarray(at + removed)]);
      expect(newChunks(edited).length).toBeLessThanOrEqual(FEW);
    }),
    { numRuns: 25, seed: 7 },
  );
});

test('most chunks survive a change anywhere', () => {
  fc.assert(
    fc.property(place, length, (at, changed) => {
      const edited = Buffer.from(data);
      noise(changed, `${at}`).copy(edited, at);
      expect(newChunks(edited).length).toBeLessThanOrEqual(FEW);
    }),
    { numRuns: 25, seed: 7 },
  );
});
