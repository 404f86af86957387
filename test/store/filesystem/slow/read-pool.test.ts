import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ReadPool } from '../../../../src/store/filesystem/read-pool.ts';
import { scratchBase } from '../../helpers.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(scratchBase, 'lifeboat-read-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

describe('the pool of readers', () => {
  test('reads the same in threads as inline, for any number of files', async () => {
    const pool = new ReadPool(1000);
    try {
      const names = Array.from({ length: 600 }, (_, i) => join(directory, String(i)));
      for (const [i, name] of names.entries()) if (i % 50 !== 49) writeFileSync(name, `content ${i}`);
      const reads = await Promise.all(names.map((name) => pool.read(Buffer.from(name), 5)));
      for (const [i, result] of reads.entries()) {
        if (i % 50 === 49) expect(result).toEqual({ outcome: 'vanished' });
        else expect(result).toMatchObject({ outcome: 'read', sha256: sha256(`content ${i}`) });
      }
    } finally {
      await pool.close();
    }
  });

  test('reports unreadable files, and rejects pending reads when it is closed', async () => {
    const pool = new ReadPool(1000);
    const long = Buffer.from(`${directory}/${'x'.repeat(300)}`);
    const results = await Promise.all(Array.from({ length: 300 }, () => pool.read(long, 0)));
    expect(
      results.every((result) => result.outcome === 'unreadable' && /ENAMETOOLONG/.test(result.error.message)),
    ).toBe(true);
    const unfinished = pool.read(long, 0);
    const rejected = expect(unfinished).rejects.toThrow('ended early');
    await pool.close();
    await rejected;
  });
});
