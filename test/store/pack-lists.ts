import type { PackListRef } from '../../src/store/objects/manifest.ts';
import { encodePackList } from '../../src/store/objects/pack-list.ts';
import type { PackRef } from '../../src/store/packs/pack-stream.ts';

/** Lists of packs that no destination holds, and their reader. */
export function fakeLists() {
  const lists = new Map<string, Buffer>();
  return {
    /** Returns the reference to a list of packs with these keys; undefined without any. */
    list(...keys: string[]): PackListRef | undefined {
      if (keys.length === 0) return undefined;
      const packs = keys.map((key, i) => packOf(key, i));
      const key = `list ${lists.size}`;
      lists.set(key, encodePackList(packs));
      return { key, size: 1, sha256: 'a'.repeat(64), count: keys.length };
    },
    readPackList: async ({ key }: { key: string }) => lists.get(key) as Buffer,
  };
}

function packOf(key: string, i: number): PackRef {
  return { id: String(i).padStart(32, '0'), key, size: 1, sha256: 'a'.repeat(64), plainSize: 1 };
}
