import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { VolumeSource } from '../../src/plan/model.ts';
import type { RestoreContext, RestoreDeps, RestoreRequest } from '../../src/restore/context.ts';
import { oldLogWarnings, prepareFile } from '../../src/restore/single-file.ts';
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

test('a refused file has the command that restores it from the snapshot and the repository that were read', async () => {
  const deps = { treeStore: { volume: async () => ({ isEqual: false, isDatabase: false }) } } as unknown;
  const request = { snapshot: 'latest', source: 'web.acme', from: '1', tables: [], paths: [] } as unknown;
  const context = { snapshot: { id: '20261120T030000Z-aaaaaa' }, journal: { file: '' } } as unknown;
  const planned = { mount: { source: '/srv/acme.json', destination: '/acme.json' } } as VolumeSource;
  await expect(
    prepareFile(deps as RestoreDeps, request as RestoreRequest, context as RestoreContext, { planned, indexPath: '' }),
  ).rejects.toMatchObject({
    code: 'TREE_TARGET_REFUSED',
    hint: expect.stringContaining(
      '`lifeboat restore 20261120T030000Z-aaaaaa web.acme --to-directory /restored/web.acme --from 1`',
    ),
  });
});
