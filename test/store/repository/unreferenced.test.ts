import { expect, test } from 'vitest';
import type { Destination, ObjectInfo } from '../../../src/destinations/destination.ts';
import { readUnreferenced, writeUnreferenced } from '../../../src/store/repository/unreferenced.ts';
import { keys } from '../../contract/destination.ts';
import { inMemory } from '../memory-destination.ts';

test('the newest list counts, and only older ones are removed, in whatever order a server lists them', async () => {
  const memory = inMemory('memory', new Map());
  const turned: Destination = {
    ...memory,
    // A key that may not delete leaves old lists.
    delete: async () => undefined,
    async *list(prefix) {
      const objects: ObjectInfo[] = [];
      for await (const object of memory.list(prefix)) objects.unshift(object);
      yield* objects;
    },
  };
  const listed = (day: number) => new Map([[`shop/packs/${day}`, Date.parse('2026-11-19T03:00:00Z')]]);
  for (const day of [20, 21, 22])
    await writeUnreferenced(turned, 'shop', listed(day), new Date(`2026-11-${day}T03:00:00Z`));
  expect(await readUnreferenced(turned, 'shop')).toEqual(listed(22));
  await writeUnreferenced({ ...turned, delete: memory.delete }, 'shop', listed(22), new Date('2026-11-23T03:00:00Z'));
  expect(await keys(memory, 'shop/unreferenced/')).toEqual([expect.stringContaining('20261122T030000Z')]);
});
