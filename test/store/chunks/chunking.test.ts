import { hash } from 'node:crypto';
import { expect, test } from 'vitest';
import { endOfChunk, MAX_CHUNK, MIN_CHUNK } from '../../../src/store/chunks/chunking.ts';
import { noise, sizesOf } from './chunks.ts';

test('known bytes are cut where they always were: other places would make everything look new', () => {
  const bytes = noise(8 * 1024 * 1024, 'golden');
  expect(hash('sha256', bytes)).toBe('a801efb158415dbf0e8e76db04f6c1fc6c4850ccf78c01f9d865bce0d7dfc041');
  expect(sizesOf(bytes)).toEqual([
    1_378_962, 348_223, 404_482, 787_576, 570_298, 772_735, 1_220_857, 1_074_658, 1_402_397, 428_420,
  ]);
});

test('data without any place to cut is cut at the maximum', () => {
  expect(sizesOf(Buffer.alloc(2 * MAX_CHUNK + 5))).toEqual([MAX_CHUNK, MAX_CHUNK, 5]);
});

test.each([1, 31, MIN_CHUNK - 1, MIN_CHUNK, MIN_CHUNK + 1])('data of %i bytes is not cut', (size) => {
  expect(endOfChunk(noise(size, 'short'), 0, size)).toBe(size);
});

test('the end depends on the chunk alone, not on what is before it', () => {
  const bytes = noise(6 * 1024 * 1024, 'alone');
  const first = endOfChunk(bytes, 0, bytes.length);
  const shifted = Buffer.concat([noise(1000, 'other'), bytes]);
  expect(endOfChunk(shifted, 1000, shifted.length)).toBe(first + 1000);
});
