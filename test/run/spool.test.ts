import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { clearDirectory, isLookUnderWay, withLookDirectory } from '../../src/run/spool.ts';

test('a read-only command has a directory among the runs, which counts as in use, and is removed at the end, even after a failure', async () => {
  const root = mkdtempSync(path.join(tmpdir(), 'lifeboat-spool-'));
  const runs = path.join(root, 'runs');
  try {
    const name = await withLookDirectory(runs, async (directory) => {
      expect(readdirSync(runs)).toEqual([path.basename(directory)]);
      return path.basename(directory);
    });
    expect(existsSync(path.join(runs, name))).toBe(false);
    expect(isLookUnderWay(name, new Date())).toBe(true);
    expect(isLookUnderWay(name, new Date(Date.now() + 25 * 3_600_000))).toBe(false);
    await expect(withLookDirectory(runs, () => Promise.reject(new Error('mine')))).rejects.toThrow('mine');
    expect(readdirSync(runs)).toEqual([]);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('a run is not a read-only command', () => {
  expect(isLookUnderWay('20261120T030000Z-4f1c9a', new Date())).toBe(false);
});

test.each([
  ['lives', async () => true],
  ['may run, according to the engine', () => Promise.reject(new Error('engine cannot be reached'))],
])('the directory of a run stays while a helper of it %s', async (_what, hasHelpers) => {
  const runs = mkdtempSync(path.join(tmpdir(), 'lifeboat-spool-'));
  try {
    const directory = path.join(runs, 'run/db.postgres');
    mkdirSync(directory, { recursive: true });
    await clearDirectory(directory, 'run', { hasHelpers, log: silentLog });
    expect(existsSync(directory)).toBe(true);
    await clearDirectory(directory, 'run', { hasHelpers: async () => false, log: silentLog });
    expect(readdirSync(path.join(runs, 'run'))).toEqual([]);
    await clearDirectory(path.join(runs, 'gone/tree'), 'run', { hasHelpers: async () => false, log: silentLog });
  } finally {
    rmSync(runs, { recursive: true });
  }
});
