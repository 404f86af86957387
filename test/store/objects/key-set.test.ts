import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { KeySet, WordSet } from '../../../src/store/objects/key-set.ts';

const keyOf = (n: number) => {
  const id = createHash('md5').update(String(n)).digest('hex');
  return `shop/packs/web.media/${id.slice(0, 2)}/${id}.zip.zst`;
};

test('a set of keys has every key that was added, and no other', () => {
  const set = new KeySet();
  for (let n = 0; n < 50_000; n++) set.add(keyOf(n));
  set.add(keyOf(0));
  expect(set.size).toBe(50_000);
  for (let n = 0; n < 50_000; n++) if (!set.has(keyOf(n))) throw new Error(`${n} is missing`);
  for (let n = 50_000; n < 100_000; n++) if (set.has(keyOf(n))) throw new Error(`${n} is there`);
});

test('keys that differ in one character, their order or their length are different', () => {
  const keys = [
    '',
    'a',
    'b',
    'ab',
    'ba',
    'aa',
    'aaa',
    '\0',
    '\0\0',
    'a\0',
    'é',
    'shop/a',
    'shop/b',
    'shop2/a',
    'shoq/a',
  ];
  for (let n = 0; n < 2000; n++)
    keys.push(`${n}`, `x${n}y`, `${'0'.repeat(30)}${n}`, `${n}${'0'.repeat(30)}`.slice(0, 30));
  const distinct = new Set(keys);
  const set = new KeySet();
  for (const key of keys) set.add(key);
  expect(set.size).toBe(distinct.size);
});

test('members of a set of words differ in any word', () => {
  const set = new WordSet(3);
  const member = (...words: number[]) => Uint32Array.from(words);
  expect(set.add(member(1, 2, 3))).toBe(true);
  expect(set.add(member(1, 2, 3))).toBe(false);
  for (const other of [member(2, 2, 3), member(1, 3, 3), member(1, 2, 4)]) {
    expect(set.has(other)).toBe(false);
    expect(set.add(other)).toBe(true);
  }
  expect(set.size).toBe(4);
  set.clear();
  expect(set.has(member(1, 2, 3))).toBe(false);
});
