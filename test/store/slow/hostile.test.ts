import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { zstdCompressSync } from 'node:zlib';
import { ZipArchive } from 'archiver';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeIndexEntry, type IndexEntry, readIndex } from '../../../src/store/index-file.ts';
import type { PackRef } from '../../../src/store/pack-stream.ts';
import { type Bench, createBench } from '../helpers.ts';

const ID = 'c'.repeat(32);
const sha256 = (data: Buffer) => createHash('sha256').update(data).digest('hex');

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => bench.remove());

const directory = (path: string): IndexEntry => ({ path, type: 'directory', mode: 0o755, uid: 0, gid: 0, mtime: 0n });
const file = (path: string, content: Buffer, entry = path): IndexEntry => ({
  ...directory(path),
  type: 'file',
  size: content.length,
  sha256: sha256(content),
  pack: ID,
  entry,
});

async function zip(entries: [string, Buffer][], store = true): Promise<Buffer> {
  const archive = new ZipArchive({ store, forceZip64: true });
  for (const [name, content] of entries) archive.append(content, { name });
  archive.finalize();
  return buffer(archive);
}

async function put(plain: Buffer, sealed = false, plainSize = plain.length): Promise<PackRef> {
  const key = `shop/packs/web.media/cc/${ID}.zip${sealed ? '.zst' : ''}`;
  const stored = await bench.destination.put(key, Readable.from([sealed ? zstdCompressSync(plain) : plain]));
  return { id: ID, key, ...stored, plainSize };
}

/** Restores from a pack and an index that somebody made up. Resolves with the error's code, or `restored`. */
async function restore(pack: PackRef, entries: IndexEntry[], checked = true): Promise<string> {
  const text = entries.map(encodeIndexEntry).join('');
  const index = checked ? readIndex(Readable.from([Buffer.from(text)])) : Readable.from(entries);
  return bench.extract({ packs: [pack] } as never, { index, target: join(bench.tree, 'out') }).then(
    () => 'restored',
    (error) => error.code ?? error.message,
  );
}

const CONTENT = Buffer.from('content');

describe('hostile packs', () => {
  test('a good one made by the same means is restored', async () => {
    const pack = await put(await zip([['a', CONTENT]]));
    expect(await restore(pack, [directory(''), file('a', CONTENT)])).toBe('restored');
  });

  test('entry names lead nowhere: only the index says where to', async () => {
    const plain = await zip([['xxxxxxxxx', CONTENT]]);
    for (const name of ['../../../x', '/tmp/evil1', '..\\..\\evi']) {
      for (let at = plain.indexOf('xxxxxxxxx'); at >= 0; at = plain.indexOf('xxxxxxxxx'))
        plain.write(name.padEnd(9).slice(0, 9), at);
      const pack = await put(plain);
      expect(await restore(pack, [directory(''), file('a', CONTENT)])).toBe('OBJECT_DAMAGED');
      await bench.destination.delete(pack.key);
      bench.remove();
      bench = createBench();
    }
    expect(existsSync('/tmp/evil1')).toBe(false);
  });

  const variants: [string, () => Promise<Buffer>][] = [
    ['compressed inside', () => zip([['a', Buffer.alloc(10_000_000)]], false)],
    [
      'two entries of one name',
      () =>
        zip([
          ['a', CONTENT],
          ['a', Buffer.from('CONTENT')],
        ]),
    ],
    ['another size than the index says', () => zip([['a', Buffer.alloc(100)]])],
    ['no such entry', () => zip([['b', CONTENT]])],
    ['other content', () => zip([['a', Buffer.from('CONTENT')]])],
    ['no zip at all', async () => randomBytes(1000)],
    ['an empty zip', () => zip([])],
    [
      'a number of entries beyond all memory',
      async () => {
        const plain = await zip([['a', CONTENT]]);
        plain.writeBigUInt64LE(0xffff_ffff_ffffn, plain.length - 98 + 32);
        plain.writeBigUInt64LE(0xffff_ffff_ffffn, plain.length - 98 + 24);
        return plain;
      },
    ],
    [
      'a directory that starts elsewhere',
      async () => {
        const plain = await zip([['a', CONTENT]]);
        plain.writeBigUInt64LE(0n, plain.length - 98 + 48);
        return plain;
      },
    ],
    [
      'an entry outside of the file',
      async () => {
        const plain = await zip([['a', CONTENT]]);
        plain.writeUInt32LE(0x7fff_fff0, plain.indexOf(Buffer.from([0x50, 0x4b, 1, 2])) + 42);
        return plain;
      },
    ],
    [
      'a local header that is none',
      async () => {
        const plain = await zip([['a', CONTENT]]);
        plain.writeUInt32LE(0, 0);
        return plain;
      },
    ],
  ];
  test.each(variants)('%s', async (_, make) => {
    const pack = await put(await make());
    expect(await restore(pack, [directory(''), file('a', CONTENT)])).toBe('OBJECT_DAMAGED');
    expect(readdirSync(join(bench.tree, 'out'))).toEqual([]);
  });

  test('a compressed pack that unpacks to more than the manifest says stops there', async () => {
    const bomb = Buffer.alloc(20_000_000);
    const pack = await put(bomb, true, 1000);
    expect(pack.size).toBeLessThan(10_000);
    expect(await restore(pack, [directory(''), file('a', CONTENT)])).toBe('OBJECT_DAMAGED');
    expect(readdirSync(bench.spool)).toEqual([]);
  });
});

describe('hostile indexes', () => {
  const symlink = (path: string, target: string): IndexEntry => ({ ...directory(path), type: 'symlink', target });

  test('a symlink is never gone through, though the index was not checked', async () => {
    const pack = await put(await zip([['a', CONTENT]]));
    const outside = join(bench.spool, 'outside');
    const entries = [directory(''), symlink('link', bench.spool), { ...file('link/outside', CONTENT, 'a') }];
    expect(await restore(pack, entries, false)).toBe('OBJECT_DAMAGED');
    expect(existsSync(outside)).toBe(false);
  });

  test('one name twice is refused, though the index was not checked', async () => {
    const pack = await put(await zip([['a', CONTENT]]));
    expect(await restore(pack, [directory(''), file('a', CONTENT), file('a', CONTENT)], false)).toBe('OBJECT_DAMAGED');
  });

  test('a hard link to what is not a file of the tree is refused', async () => {
    const pack = await put(await zip([['a', CONTENT]]));
    writeFileSync(join(bench.spool, 'secret'), 'x');
    for (const target of ['b', 'a-link']) {
      const link: IndexEntry = { ...file('z', CONTENT, 'a'), type: 'hardlink', target };
      expect(await restore(pack, [directory(''), symlink('a-link', join(bench.spool, 'secret')), link])).toBe(
        'OBJECT_DAMAGED',
      );
      bench.remove();
      bench = createBench();
      await put(await zip([['a', CONTENT]]));
      writeFileSync(join(bench.spool, 'secret'), 'x');
    }
  });
});
