import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { TaskLists } from '../../../src/store/content/task-lists.ts';
import { scratchBase } from '../helpers.ts';

test('names of a file whose first name is not selected are found, in little memory, and leave nothing', async () => {
  const spool = mkdtempSync(path.join(scratchBase, 'lifeboat-names-'));
  const lists = new TaskLists(spool);
  const { firstNames } = lists;
  const name = (n: number) => `${'\xff'.repeat((n * 7919) % 300)}\n"${n}`;
  try {
    for (let n = 0; n < 20_000; n++) {
      expect(await firstNames.find(name(n))).toBeUndefined();
      await firstNames.add(name(n), `restored ${name(n)}`);
    }
    for (let n = 0; n < 20_000; n += 7) expect(await firstNames.find(name(n))).toBe(`restored ${name(n)}`);
    expect(readdirSync(spool)).toHaveLength(1);
    const { offsets } = firstNames as unknown as { offsets: Record<string, { byteLength: number }> };
    const bytes = ['high', 'low', 'values'].reduce((sum, one) => sum + (offsets[one]?.byteLength ?? Number.NaN), 0);
    expect(bytes).toBeLessThan(50 * 20_000);
  } finally {
    await lists.close();
  }
  expect(readdirSync(spool)).toEqual([]);
  rmSync(spool, { recursive: true });
});
