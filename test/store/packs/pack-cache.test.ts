import { hash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { expect, test } from 'vitest';
import type { Destination } from '../../../src/destinations/destination.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { PackCache } from '../../../src/store/packs/pack-cache.ts';
import type { PackRef } from '../../../src/store/packs/pack-stream.ts';
import { scratchBase } from '../helpers.ts';
import { inMemory } from '../memory-destination.ts';
import { zip } from '../packs.ts';

test('a file whose parts are in many packs fetches each of them once, although their order alternates', async () => {
  const spool = mkdtempSync(path.join(scratchBase, 'lifeboat-cache-'));
  const memory = inMemory('memory', new Map());
  let fetched = 0;
  const destination: Destination = {
    ...memory,
    get: (key, options) => {
      fetched++;
      return memory.get(key, options);
    },
  };
  const packs = new Map<string, PackRef>();
  for (let n = 0; n < 100; n++) {
    const id = hash('md5', `${n}`);
    const plain = zip(['0', Buffer.from(`first of ${n}`)], ['1', Buffer.from(`second of ${n}`)]);
    const key = `shop/packs/web.media/${id.slice(0, 2)}/${id}.zip.zst`;
    packs.set(id, { id, key, ...(await memory.put(key, streamOf(zstdCompressSync(plain)))), plainSize: plain.length });
  }
  const cache = new PackCache(packs, { destination, keys: {}, spool });
  try {
    for (let round = 0; round < 3; round++) {
      for (const [n, id] of [...packs.keys()].entries()) {
        const [entry, text] = round % 2 === 0 ? ['0', `first of ${n}`] : ['1', `second of ${n}`];
        expect(String(await cache.read({ pack: id, entry, size: text.length }))).toBe(text);
      }
    }
    expect(fetched).toBe(100);
    const kept = [
      ...(Reflect.get(cache, 'open') as Map<string, { blocks: { blocks: Map<number, unknown> } }>).values(),
    ];
    expect(kept.filter(({ blocks }) => blocks.blocks.size > 0)).toHaveLength(16);
  } finally {
    await cache.close();
    rmSync(spool, { recursive: true });
  }
});
