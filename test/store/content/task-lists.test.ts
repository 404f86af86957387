import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { TaskLists } from '../../../src/store/content/task-lists.ts';
import { scratchBase } from '../helpers.ts';
import { ROOT } from '../packs.ts';

test.each([3, 60_000])(
  'a list of %d entries is read in both directions, whether it is in memory or in the spool',
  async (count) => {
    const spool = mkdtempSync(path.join(scratchBase, 'lifeboat-lists-'));
    const lists = new TaskLists(spool);
    try {
      const name = (n: number) => `${n} ${'é'.repeat((n * 7919) % 300)}`;
      for (let n = 0; n < count; n++) {
        await lists.add('wanted', { ...ROOT, path: name(n) });
        await lists.add('other', { ...ROOT, path: 'x' });
      }
      expect(readdirSync(spool).length).toBe(count > 1000 ? 1 : 0);
      let n = 0;
      for await (const entry of lists.read('wanted')) expect(entry.path).toBe(name(n++));
      expect(n).toBe(count);
      for await (const entry of lists.readBackwards('wanted')) expect(entry.path).toBe(name(--n));
      expect(n).toBe(0);
      for await (const _ of lists.readBackwards('none')) throw new Error('there is none');
    } finally {
      await lists.close();
      rmSync(spool, { recursive: true });
    }
  },
);
