import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { LifeboatError } from '../../src/base/errors.ts';
import type { SweepingDestination } from '../../src/destinations/destination.ts';
import { streamOf } from '../../src/store/objects/objects.ts';

/** Objects in memory, for tests of which objects exist. */
export function inMemory(name: string, objects: Map<string, string>): SweepingDestination {
  return {
    name,
    async put(key, body) {
      const content = await buffer(body);
      if (objects.has(key)) throw new LifeboatError('DEST_EXISTS', key);
      objects.set(key, content.toString('latin1'));
      return { size: content.length, sha256: createHash('sha256').update(content).digest('hex') };
    },
    async get(key) {
      const content = objects.get(key);
      if (content === undefined) throw new LifeboatError('OBJECT_MISSING', `no ${key}`);
      return streamOf(Buffer.from(content, 'latin1'));
    },
    async *list(prefix, { after = '' } = {}) {
      for (const key of [...objects.keys()].sort()) {
        const size = objects.get(key)?.length;
        if (key.startsWith(prefix) && key > after && size !== undefined) yield { key, size };
      }
    },
    async delete(key) {
      objects.delete(key);
    },
    sweepTemporary: async () => 0,
  };
}
