import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { LifeboatError } from '../../../src/base/errors.ts';
import { refusal } from '../../../src/docker/engine-errors.ts';
import {
  noteFinished,
  noteUnfinished,
  refuseExisting,
  unfinishedBy,
} from '../../../src/restore/point/unfinished-volume.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-unfinished-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

test('a volume that a recovery did not complete is named in the next try, until one completes it', async () => {
  const volumes = new Set(['found']);
  const engine = {
    async inspectVolume(name: string) {
      if (!volumes.has(name)) throw refusal(404, 'no such volume', { method: 'GET', path: `/volumes/${name}` });
      return { labels: {}, options: {} };
    },
  };
  const state = { directory };
  const hintOf = (name: string) =>
    refuseExisting({ engine: engine as never, state }, name).then(
      () => undefined,
      (error: LifeboatError) => `${error.code}: ${error.hint}`,
    );
  const plain = 'TREE_TARGET_NOT_EMPTY: Name a volume that does not exist yet. Lifeboat creates it.';
  expect([await hintOf('found'), await hintOf('new')]).toEqual([plain, undefined]);
  await noteUnfinished(state, 'new', 'r1');
  volumes.add('new');
  expect(await hintOf('new')).toBe(
    `${plain} Recovery r1, to a volume of that name, did not end well: if it made this one, the volume may be incomplete.`,
  );
  expect([await unfinishedBy(state, 'r1'), await unfinishedBy(state, 'r2'), await hintOf('found')]).toEqual([
    ...['new', undefined, plain],
  ]);
  await expect(refuseExisting({ engine: engine as never, state: { directory: '/dev/null' } }, 'new')).rejects.toThrow(
    'there is a volume new already',
  );
  await noteFinished(state, 'new');
  expect([await unfinishedBy(state, 'r1'), await hintOf('new')]).toEqual([undefined, plain]);
});
