import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readJson, writeJson } from '../../src/run/state-files.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-state-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('writes of one file at the same time succeed, and the last one counts', async () => {
  const file = path.join(directory, 'one.json');
  await Promise.all(Array.from({ length: 20 }, (_, at) => writeJson(file, { at })));
  expect(await readJson(file)).toEqual({ at: 19 });
  expect(readdirSync(directory)).toEqual(['one.json']);
});

test('a failed write fails no later one', async () => {
  const file = path.join(directory, 'one.json');
  await writeJson(path.join(file, 'below'), 1);
  const failed = writeJson(file, 1);
  const next = writeJson(file, 2);
  await expect(failed).rejects.toThrow('directory');
  await expect(next).rejects.toThrow('directory');
  rmSync(file, { recursive: true });
  await writeJson(file, 3);
  expect(await readJson(file)).toBe(3);
});
