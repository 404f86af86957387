import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeIndexEntry, type IndexEntry } from '../../../../src/store/filesystem/index-file.ts';
import { readIndex } from '../../../../src/store/filesystem/read-index.ts';
import { type Bench, createBench } from '../../helpers.ts';
import { type Content, file, PACK_ID, ROOT, sha256, zip } from '../../packs.ts';

/** Fault 23: packs that were crafted to do harm. All attacks have the same requirements, see `attack`. */

const MIB = 1024 ** 2;
const CONTENT = Buffer.from('content');

/** The signature of each record of the directory. */
const RECORD = Buffer.from([0x50, 0x4b, 1, 2]);

/** Returns the offset of an entry's record in the directory. */
function record(plain: Buffer, number = 0): number {
  let at = -1;
  for (let i = 0; i <= number; i++) at = plain.indexOf(RECORD, at + 1);
  return at;
}

/** A pack with one content, of which bytes are changed. `end`: offset of the records at the end. */
function changed(change: (plain: Buffer, record: number, end: number) => unknown, ...contents: Content[]): Buffer {
  const plain = zip(...(contents.length > 0 ? contents : [['a', CONTENT] satisfies Content]));
  change(plain, record(plain), plain.length - 98);
  return plain;
}

/** A pack with one content: deflated zeros. */
function deflated(size: number): Buffer {
  return changed(
    (plain, at) => {
      for (const field of [8, at + 10]) plain.writeUInt16LE(8, field);
      plain.writeUInt32LE(size, at + 24);
    },
    ['a', deflateRawSync(Buffer.alloc(size))],
  );
}

interface Attack {
  plain: Buffer;
  /** stored compressed, with this size in the manifest */
  sealed?: { plainSize?: number; stored?: Buffer };
  /** the index; default: one file `a` with CONTENT */
  index?: IndexEntry[];
  /** default: the pack is refused */
  restores?: true;
}

const attacks: [string, () => Attack][] = [];
const refused = (name: string, plain: () => Buffer, index?: IndexEntry[]) =>
  attacks.push([name, () => ({ plain: plain(), ...(index ? { index } : {}) })]);

// Names that lead elsewhere. The index decides where a file goes, whatever its name in the pack. A name that the index
// lacks is missing.
const NAMES = [
  '../escaped',
  '../../escaped',
  '../link/escaped',
  '../../../../../../tmp/lifeboat-escaped',
  '/tmp/lifeboat-escaped',
  '..\\..\\escaped',
  'C:\\escaped',
  'a/../../escaped',
  './../escaped',
  'link/escaped',
  '....//....//escaped',
  '%2e%2e/escaped',
  '..\0/escaped',
  '-rf',
  '\u202e../escaped',
];
for (const name of NAMES) {
  attacks.push([
    `${JSON.stringify(name)} in the pack and the index`,
    () => ({ plain: zip([name, CONTENT]), index: [ROOT, file('a', CONTENT, name)], restores: true }),
  ]);
  refused(`${JSON.stringify(name)} in the pack alone`, () => zip([name, CONTENT]));
}

// Entries that share bytes: the restored content must still have the hash in the index.
refused('two entries of one name, the last as it should be', () => zip(['a', Buffer.from('CONTENT')], ['a', CONTENT]));
refused(
  'an entry that begins where another does',
  () =>
    changed((plain) => plain.writeUInt32LE(0, record(plain, 1) + 42), ['a', Buffer.from('CONTENT')], ['b', CONTENT]),
  [ROOT, file('b', CONTENT)],
);
for (const whole of [true, false]) {
  attacks.push([
    `a thousand entries over the same bytes, ${whole ? 'which are what the index says of each' : 'and other ones'}`,
    () => {
      const names = Array.from({ length: 1000 }, (_, i) => `${i}`.padStart(4, '0'));
      const plain = zip(...names.map((name) => [name, CONTENT] satisfies Content));
      for (let at = record(plain); at >= 0; at = plain.indexOf(RECORD, at + 1)) {
        plain.writeUInt32LE(0, at + 42);
        for (const field of [20, 24]) plain.writeUInt32LE(20_000, at + field);
      }
      const shared = whole ? plain.subarray(34, 20_034) : Buffer.alloc(20_000);
      const index = [ROOT, ...names.map((name) => file(name, shared))];
      return whole ? { plain, index, restores: true } : { plain, index };
    },
  ]);
}
attacks.push([
  'an entry over the directory itself',
  () => {
    // The content ends in a header, and the directory follows.
    const plain = zip(['a', Buffer.concat([CONTENT, zip(['', CONTENT]).subarray(0, 30)])]);
    const at = record(plain);
    plain.writeUInt32LE(at - 30, at + 42);
    for (const field of [20, 24]) plain.writeUInt32LE(46, at + field);
    return { plain, index: [ROOT, file('a', Buffer.alloc(46))] };
  },
]);
refused('an entry over the records at the end', () => changed((plain, at, end) => plain.writeUInt32LE(end, at + 42)));
refused('an entry outside of the file', () => changed((plain, at) => plain.writeUInt32LE(0x7fff_fff0, at + 42)));
refused('an entry past the end by the length of its name', () => changed((plain) => plain.writeUInt16LE(0xffff, 26)));
refused('an entry past the end by its extra field', () => changed((plain) => plain.writeUInt16LE(0xffff, 28)));
for (const whole of [true, false]) {
  attacks.push([
    `a header inside of a content, of ${whole ? 'what the index says' : 'something else'}`,
    () => {
      const plain = zip(['a', zip(['a', whole ? CONTENT : Buffer.from('CONTENT')])]);
      const at = plain.lastIndexOf(RECORD);
      plain.writeUInt32LE(31, at + 42);
      for (const field of [20, 24]) plain.writeUInt32LE(CONTENT.length, at + field);
      return whole ? { plain, restores: true } : { plain };
    },
  ]);
}

// The index also decides the type of an entry.
for (const [what, mode] of [
  ['a symlink', 0o120777],
  ['a device', 0o020666],
  ['a program with the rights of its owner', 0o104755],
] as const) {
  attacks.push([
    `an entry that is ${what}, for the pack`,
    () => {
      const to = Buffer.from('../../escaped');
      return {
        plain: changed((plain, at) => plain.writeUInt32LE((mode << 16) >>> 0, at + 38), ['a', to]),
        index: [ROOT, file('a', to)],
        restores: true,
      };
    },
  ]);
}

// More content than the index says.
refused('deflated inside, to 100 MiB that the index does not say', () => deflated(100 * MIB));
refused('deflated inside, to 100 MiB that the index says', () => deflated(100 * MIB), [
  ROOT,
  file('a', Buffer.alloc(100 * MIB)),
]);
refused('deflated inside, to a small content that the index says', () => deflated(MIB / 2), [
  ROOT,
  file('a', Buffer.alloc(MIB / 2)),
]);
refused('another size than the index says', () => zip(['a', Buffer.alloc(10 * MIB)]));
refused('a size of 4 GiB less one', () => changed((plain, at) => plain.writeUInt32LE(0xffff_fffe, at + 24)));
refused('a size that a field has which is not there', () =>
  changed((plain, at) => plain.writeUInt32LE(0xffff_ffff, at + 24)),
);
attacks.push(['zeros that unpack to 200 MiB', () => ({ plain: Buffer.alloc(200 * MIB), sealed: { plainSize: 1000 } })]);
attacks.push([
  'zeros after a good pack',
  () => ({ plain: Buffer.concat([zip(['a', CONTENT]), Buffer.alloc(50 * MIB)]), sealed: { plainSize: 300 } }),
]);
attacks.push([
  'many frames after a good one',
  () => {
    const plain = zip(['a', CONTENT]);
    const frame = zstdCompressSync(Buffer.alloc(MIB));
    const stored = Buffer.concat([zstdCompressSync(plain), ...Array.from({ length: 64 }, () => frame)]);
    return { plain, sealed: { stored } };
  },
]);
attacks.push([
  'a pack in a pack in a pack',
  () => ({ plain: zip(['a', zip(['a', zip(['a', CONTENT])])]), index: [ROOT, file('a', CONTENT)] }),
]);
attacks.push([
  'fewer bytes than the manifest says',
  () => ({ plain: zip(['a', CONTENT]), sealed: { plainSize: 10 * MIB } }),
]);
attacks.push([
  'zeros in another compression than its name says, which zstd knows too',
  () => ({ plain: zip(['a', CONTENT]), sealed: { stored: gzipSync(Buffer.alloc(200 * MIB)) } }),
]);
attacks.push([
  'a compression that ends early',
  () => {
    const plain = zip(['a', randomBytes(MIB)]);
    return { plain, sealed: { stored: zstdCompressSync(plain).subarray(0, MIB / 2) } };
  },
]);

// Directories that lie.
refused('no zip at all', () => randomBytes(1000));
refused('less than the records at the end', () => zip(['a', CONTENT]).subarray(-97));
refused('an empty zip', () => zip());
refused('no such entry', () => zip(['b', CONTENT]));
refused('other content', () => zip(['a', Buffer.from('CONTENT')]));
refused('a number of entries beyond all memory', () =>
  changed((plain, _, end) => {
    for (const field of [24, 32]) plain.writeBigUInt64LE(0xffff_ffff_ffffn, end + field);
  }),
);
refused('more entries than any pack has', () => {
  const good = zip(['00000', CONTENT]);
  const [content, one] = [good.subarray(0, 42), good.subarray(42, 42 + 51)];
  const records = Array.from({ length: 70_000 }, (_, i) => {
    const each = Buffer.from(one);
    each.write(`${i}`.padStart(5, '0'), 46);
    return each;
  });
  const plain = Buffer.concat([content, ...records, good.subarray(-98)]);
  const end = plain.length - 98;
  for (const field of [24, 32]) plain.writeBigUInt64LE(70_000n, end + field);
  plain.writeBigUInt64LE(70_000n * 51n, end + 40);
  plain.writeBigUInt64LE(BigInt(end), end + 64);
  return plain;
}, [ROOT, file('a', CONTENT, '00000')]);
refused('more entries than there are', () =>
  changed((plain, _, end) => {
    for (const field of [24, 32]) plain.writeBigUInt64LE(2n, end + field);
  }),
);
refused('a directory that starts elsewhere', () => changed((plain, _, end) => plain.writeBigUInt64LE(0n, end + 48)));
refused('a directory that starts before the file', () =>
  changed((plain, _, end) => plain.writeBigInt64LE(-5n, end + 48)),
);
refused('a directory longer than the file', () =>
  changed((plain, _, end) => plain.writeBigUInt64LE(0xffff_ffffn, end + 40)),
);
refused('a locator that leads elsewhere', () => changed((plain, _, end) => plain.writeBigUInt64LE(0n, end + 64)));
refused('a comment at the end', () => changed((plain, _, end) => plain.writeUInt16LE(5, end + 96)));
refused('a second end behind the first', () => Buffer.concat([zip(['a', CONTENT]), zip().subarray(-22)]));
refused('a name longer than the directory', () => changed((plain, at) => plain.writeUInt16LE(0xffff, at + 28)));
refused('an extra field longer than the directory', () => changed((plain, at) => plain.writeUInt16LE(0xffff, at + 30)));
attacks.push([
  'a record without its mark: what it leads to is what the index says',
  () => ({ plain: changed((plain, at) => plain.writeUInt32LE(0, at)), restores: true }),
]);
refused('a local header that is none', () => changed((plain) => plain.writeUInt32LE(0, 0)));
refused('an entry that is encrypted', () => changed((plain) => plain.writeUInt16LE(1, 6)));
refused('bytes before the first entry', () => Buffer.concat([randomBytes(100), zip(['a', CONTENT])]));

// Contents of a few MiB.
const LARGE = Buffer.alloc(2 * MIB, 'large');
const large = [ROOT, file('a', LARGE)];
refused('a large content of another name', () => zip(['b', LARGE]), large);
refused('a large content that ends early', () => zip(['a', LARGE.subarray(0, MIB)]), large);
refused('a large content that is another', () => zip(['a', Buffer.alloc(2 * MIB)]), large);
refused(
  'a large content that is said to be deflated',
  () => changed((plain) => plain.writeUInt16LE(8, 8), ['a', LARGE]),
  large,
);
refused(
  'a large content whose name has no end',
  () => changed((plain) => plain.writeUInt16LE(0xffff, 26), ['a', LARGE]),
  large,
);
attacks.push([
  'a large content with 200 MiB of zeros behind it',
  () => ({
    plain: Buffer.concat([zip(['a', LARGE]).subarray(0, 31 + LARGE.length), Buffer.alloc(200 * MIB)]),
    sealed: {},
    index: large,
  }),
]);

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => bench.remove());

/** Returns every name below a directory, with its type and content, except those in the target. */
function everything(directory: string, target: string): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (path === target) return [];
    if (entry.isDirectory()) return [path, ...everything(path, target)];
    return [`${path} ${entry.isSymbolicLink() ? `→ ${readlinkSync(path)}` : sha256(readFileSync(path))}`];
  });
}

describe('hostile packs', () => {
  test('there are at least fifty', () => {
    expect(new Set(attacks.map(([name]) => name)).size).toBe(attacks.length);
    expect(attacks.length).toBeGreaterThanOrEqual(50);
  });

  test('a valid pack made in the same way is restored', async () => {
    await attack({ plain: zip(['a', CONTENT]), restores: true });
  });

  test.each(attacks)('%s', async (_, make) => {
    await attack(make());
  });

  /**
   * Checks that nothing outside the target changes, and that the disk holds no more than the index and the manifest
   * say.
   */
  async function attack({ plain, sealed, index = [ROOT, file('a', CONTENT)], restores }: Attack): Promise<void> {
    const target = join(bench.tree, 'out');
    const base = join(bench.tree, '..');
    // The targets of names that would be followed.
    mkdirSync(join(base, 'elsewhere'));
    for (const directory of [base, bench.tree, join(base, 'elsewhere')])
      writeFileSync(join(directory, 'escaped'), 'as it was');
    symlinkSync(join(base, 'elsewhere'), join(bench.tree, 'link'));
    const key = `shop/packs/web.media/cc/${PACK_ID}.zip${sealed ? '.zst' : ''}`;
    const stored = await bench.destination.put(
      key,
      Readable.from([sealed ? (sealed.stored ?? zstdCompressSync(plain)) : plain]),
    );
    const pack = { id: PACK_ID, key, ...stored, plainSize: sealed?.plainSize ?? plain.length };
    const before = everything(base, target);
    let spooled = 0;
    const watch = setInterval(() => {
      spooled = Math.max(spooled, bytesIn(bench.spool));
    }, 1);
    const text = index.map(encodeIndexEntry).join('');
    const outcome = await bench
      .extract({ packs: [pack] } as never, { index: readIndex(Readable.from([Buffer.from(text)])), target })
      .then(
        () => 'restored',
        (error) => error.code ?? error.message,
      );
    clearInterval(watch);
    expect(outcome).toBe(restores ? 'restored' : 'OBJECT_DAMAGED');
    expect(everything(base, target)).toEqual(before);
    expect(existsSync('/tmp/lifeboat-escaped')).toBe(false);
    expect(spooled).toBeLessThanOrEqual(pack.plainSize + MIB);
    const wanted = index.filter(({ type }) => type === 'file');
    const found = readdirSync(target);
    expect(bytesIn(target)).toBeLessThanOrEqual(wanted.reduce((sum, entry) => sum + (entry.size ?? 0), 0));
    if (restores) {
      expect(found).toEqual(wanted.map(({ path }) => path));
      for (const entry of wanted) {
        const path = join(target, entry.path);
        expect(lstatSync(path).mode).toBe(0o100755);
        expect(sha256(readFileSync(path))).toBe(entry.sha256);
      }
      // Small content is verified before any of it is written.
    } else if (wanted.every(({ size = 0 }) => size <= MIB)) expect(found).toEqual([]);
    else expect(found.filter((name) => !wanted.some(({ path }) => path === name))).toEqual([]);
  }
});

function bytesIn(directory: string): number {
  return readdirSync(directory).reduce((sum, name) => {
    const found = lstatSync(join(directory, name), { throwIfNoEntry: false });
    return sum + (found?.size ?? 0);
  }, 0);
}
