import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RestoreRequest } from '../../src/restore/context.ts';
import { oldLogWarnings } from '../../src/restore/single-file.ts';
import { scratchBase } from '../store/helpers.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(scratchBase, 'lifeboat-single-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const warnings = (files = 1, to: { toDirectory?: string } = { toDirectory: directory }) =>
  oldLogWarnings({ source: 'web.db', ...to } as RestoreRequest, { files });

test('an SQLite file that was restored alone has a warning about the old log', () => {
  const database = new DatabaseSync(path.join(directory, 'app.db'));
  database.exec('CREATE TABLE t (i int)');
  database.close();
  expect(warnings()).toEqual([expect.stringContaining('move its old -wal, -shm and -journal files away')]);
  // In a volume, a restore puts the old log aside together with the old file.
  expect(warnings(2)).toEqual([]);
  expect(warnings(1, {})).toEqual([]);
});

test.each(['', 'SQLite', '{"certificates": 1}'])('another file has none: %j', (content) => {
  writeFileSync(path.join(directory, 'acme.json'), content);
  expect(warnings()).toEqual([]);
});
