import { Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeIndexEntry, encodeIndexEntry, type IndexEntry } from '../../../src/store/filesystem/index-file.ts';
import { MAX_CONTENT } from '../../../src/store/filesystem/index-part.ts';
import { comparePaths, entryName } from '../../../src/store/filesystem/path.ts';
import { readIndex } from '../../../src/store/filesystem/read-index.ts';
import { treePath } from '../arbitrary.ts';

const numRuns = 300;
const hex = (length: number) =>
  fc.string({ unit: fc.constantFrom(...'0123456789abcdef'), minLength: length, maxLength: length });
const base = fc.record({
  path: treePath,
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.nat(0xffffffff),
  gid: fc.nat(0xffffffff),
  mtime: fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n }),
});
const content = fc.record({
  size: fc.integer({ min: 1, max: MAX_CONTENT }),
  sha256: hex(64),
  pack: hex(32),
});
const inParts = fc.record({
  size: fc.integer({ min: 10, max: Number.MAX_SAFE_INTEGER }),
  sha256: hex(64),
  parts: fc.integer({ min: 1, max: 10 }),
});
const flags = fc.record(
  {
    changed: fc.constant(true as const),
    sparse: fc.constant(true as const),
    sqlite: hex(32),
    ctime: fc.bigInt({ min: 0n, max: 2n ** 63n }),
    ino: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  },
  { requiredKeys: [] },
);
const entry: fc.Arbitrary<IndexEntry> = fc.oneof(
  fc
    .tuple(base, inParts, flags, fc.constantFrom({}, { ranges: [0, 10] }))
    .map(([b, c, f, r]) => ({ ...b, type: 'file' as const, ...c, ...f, ...r })),
  fc
    .tuple(base, content, flags)
    .map(([b, c, f]) => ({ ...b, type: 'file' as const, ...c, entry: entryName(b.path), ...f })),
  fc
    .tuple(base, fc.constantFrom('directory', 'fifo', 'socket', 'char', 'block'))
    .map(([b, type]) => ({ ...b, type: type as IndexEntry['type'] })),
  fc.tuple(base, treePath).map(([b, target]) => ({ ...b, type: 'symlink' as const, target: `../${target}` })),
);

const directory = (path: string): IndexEntry => ({ path, type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: 0n });
const sha256 = 'a'.repeat(64);
const file = (path: string): IndexEntry => ({
  ...directory(path),
  type: 'file',
  size: 3,
  sha256,
  pack: 'b'.repeat(32),
  entry: entryName(path),
});

const read = async (text: string | Buffer, pieces = 7) => {
  const bytes = Buffer.from(text);
  const chunks: Buffer[] = [];
  for (let i = 0; i < bytes.length; i += pieces) chunks.push(bytes.subarray(i, i + pieces));
  const entries: IndexEntry[] = [];
  for await (const item of readIndex(Readable.from(chunks))) entries.push(item);
  return entries;
};
const lines = (...entries: IndexEntry[]) => entries.map(encodeIndexEntry).join('');

describe('the index', () => {
  test('any entry survives a round trip through one line', () => {
    fc.assert(
      fc.property(entry, (value) => {
        const line = encodeIndexEntry(value);
        expect(line.indexOf('\n')).toBe(line.length - 1);
        expect(decodeIndexEntry(line.slice(0, -1))).toEqual(value.ranges ? { ...value, sparse: true } : value);
      }),
      { numRuns },
    );
  });

  test('is read in pieces of any size', async () => {
    const entries = [
      directory(''),
      directory('a'),
      file('a/\xff'),
      file('a-b'),
      { ...file('b'), type: 'hardlink' as const, target: 'a/\xff' },
    ];
    for (const pieces of [1, 5, 100_000]) expect(await read(lines(...entries), pieces)).toEqual(entries);
  });

  const good = lines(directory(''), file('a'));
  const bad: [string, string][] = [
    ['nothing at all', ''],
    ['no root', lines(file('a'))],
    ['a root that is a file', lines({ ...file(''), path: '' })],
    ['a cut last line', good.slice(0, -1)],
    ['cut in the middle', good.slice(0, -30)],
    ['not in order', lines(directory(''), file('b'), file('a'))],
    ['a repeated name', lines(directory(''), file('a'), file('a'))],
    ['a parent that is not listed', lines(directory(''), file('a/b'))],
    ['a parent that is a file', lines(directory(''), file('a'), file('a/b'))],
    [
      'a parent that is a symlink',
      lines(directory(''), { ...directory('a'), type: 'symlink', target: '/etc' }, file('a/b')),
    ],
    ['a path out of the tree', good.replace('"path":"a"', '"path":"../a"')],
    ['an absolute path', good.replace('"path":"a"', '"path":"/a"')],
    ['a NUL in a path', good.replace('"path":"a"', '"path":"a\\u0000"')],
    ['two forms of a path', good.replace('"path":"a"', '"path":"a","path_base64":"/w=="')],
    ['text as base64', good.replace('"path":"a"', '"path_base64":"YQ=="')],
    ['a negative size', good.replace('"size":3', '"size":-3')],
    ['half a byte', good.replace('"size":3', '"size":3.5')],
    ['a range beyond the end', good.replace('"size":3', '"size":3,"ranges":[0,4]')],
    ['ranges out of order', good.replace('"size":3', '"size":3,"ranges":[2,1,0,1]')],
    ['ranges that overlap', good.replace('"size":3', '"size":3,"ranges":[0,2,1,1]')],
    ['an empty range', good.replace('"size":3', '"size":3,"ranges":[1,0]')],
    ['half a range', good.replace('"size":3', '"size":3,"ranges":[1]')],
    ['a negative range', good.replace('"size":3', '"size":3,"ranges":[-1,1]')],
    ['content where all is a hole', good.replace('"size":3', '"size":3,"ranges":[]')],
    ['a short hash', good.replace(sha256, 'abc')],
    ['no pack', good.replace(/"pack":"b+",/, '')],
    ['a strange pack', good.replace(/"pack":"b+"/, '"pack":"../../x"')],
    ['an unknown type', good.replace('"type":"file"', '"type":"door"')],
    [
      'a mode in decimal',
      good.replace('"mode":"0755","uid":0,"gid":0,"mtime":"0","size"', '"mode":493,"uid":0,"gid":0,"mtime":"0","size"'),
    ],
    ['a time as number', good.replaceAll('"mtime":"0"', '"mtime":0')],
    ['content of an empty file', good.replace('"size":3', '"size":0')],
    ['a hard link to itself', lines(directory(''), { ...file('a'), type: 'hardlink', target: 'a' })],
    ['a hard link to a later name', lines(directory(''), { ...file('a'), type: 'hardlink', target: 'b' })],
    ['a hard link out of the tree', lines(directory(''), { ...file('a'), type: 'hardlink', target: '../x' })],
    ['a symlink to nothing', lines(directory(''), { ...directory('a'), type: 'symlink', target: '' })],
    ['no JSON', `${good}hello\n`],
    ['an empty line', `${good}\n`],
    ['an array', `${good}[]\n`],
    ['a very long line', good + 'x'.repeat(200_000)],
  ];
  test.each(bad)('refuses %s', async (_, text) => {
    await expect(read(text, 50)).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('refuses a line that is not UTF-8', async () => {
    await expect(read(Buffer.from(good.replace('"a"', '"\xff"'), 'latin1'))).rejects.toMatchObject({
      code: 'OBJECT_DAMAGED',
    });
  });

  test('a changed byte is refused, or leaves all paths in order', async () => {
    const bytes = Buffer.from(lines(directory(''), directory('a'), file('a/b'), file('c')));
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, flip) => {
        const damaged = Buffer.from(bytes);
        damaged[at]! ^= flip;
        try {
          const entries = await read(damaged, 1000);
          for (let i = 1; i < entries.length; i++)
            expect(comparePaths(entries[i - 1]!.path, entries[i]!.path)).toBeLessThan(0);
        } catch (error) {
          expect(error).toMatchObject({ code: 'OBJECT_DAMAGED' });
        }
      }),
      { numRuns },
    );
  });

  test('unknown keys are ignored', async () => {
    expect(await read(good.replaceAll('"type"', '"future":{"x":1},"type"'))).toEqual([directory(''), file('a')]);
  });
});
