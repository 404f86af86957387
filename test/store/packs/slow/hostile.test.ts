import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeIndexEntry, type IndexEntry } from '../../../../src/store/filesystem/index-file.ts';
import { readIndex } from '../../../../src/store/filesystem/read-index.ts';
import type { PackRef } from '../../../../src/store/packs/pack-stream.ts';
import { type Bench, createBench } from '../../helpers.ts';
import { file, PACK_ID, ROOT, zip } from '../../packs.ts';

let bench: Bench;
beforeEach(() => {
  bench = createBench();
});
afterEach(() => bench.remove());

async function put(plain: Buffer): Promise<PackRef> {
  const key = `shop/packs/web.media/cc/${PACK_ID}.zip`;
  const stored = await bench.destination.put(key, Readable.from([plain]));
  return { id: PACK_ID, key, ...stored, plainSize: plain.length };
}

/** Restores from a forged pack and index. Resolves to the error's code, or `restored`. */
async function restore(pack: PackRef, entries: IndexEntry[], checked = true): Promise<string> {
  const text = entries.map(encodeIndexEntry).join('');
  const index = checked ? readIndex(Readable.from([Buffer.from(text)])) : Readable.from(entries);
  return bench.extract({ packs: [pack] } as never, { index, target: join(bench.tree, 'out') }).then(
    () => 'restored',
    (error) => error.code ?? error.message,
  );
}

const CONTENT = Buffer.from('content');

describe('hostile indexes', () => {
  const symlink = (path: string, target: string): IndexEntry => ({ ...ROOT, path, type: 'symlink', target });

  test('a valid index made in the same way is restored', async () => {
    const pack = await put(zip(['a', CONTENT]));
    const link: IndexEntry = { ...file('z', CONTENT, 'a'), type: 'hardlink', target: 'a' };
    expect(await restore(pack, [ROOT, file('a', CONTENT), symlink('l', bench.spool), link])).toBe('restored');
  });

  test('a symlink is never followed, even if the index was not checked', async () => {
    const pack = await put(zip(['a', CONTENT]));
    const outside = join(bench.spool, 'outside');
    const entries = [ROOT, symlink('link', bench.spool), { ...file('link/outside', CONTENT, 'a') }];
    expect(await restore(pack, entries, false)).toBe('TREE_TARGET_REFUSED');
    expect(existsSync(outside)).toBe(false);
  });

  test('a duplicate name is refused, even if the index was not checked', async () => {
    const pack = await put(zip(['a', CONTENT]));
    expect(await restore(pack, [ROOT, file('a', CONTENT), file('a', CONTENT)], false)).toBe('TREE_TARGET_REFUSED');
  });

  test('a hard link to anything but a file of the tree is refused', async () => {
    const pack = await put(zip(['a', CONTENT]));
    writeFileSync(join(bench.spool, 'secret'), 'x');
    for (const target of ['b', 'a-link']) {
      const link: IndexEntry = { ...file('z', CONTENT, 'a'), type: 'hardlink', target };
      expect(await restore(pack, [ROOT, symlink('a-link', join(bench.spool, 'secret')), link])).toBe('OBJECT_DAMAGED');
      bench.remove();
      bench = createBench();
      await put(zip(['a', CONTENT]));
      writeFileSync(join(bench.spool, 'secret'), 'x');
    }
  });
});
