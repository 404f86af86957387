import { expect, test } from 'vitest';
import { lookUpPaths } from '../../src/app/import-wiring.ts';

const lookUp = (name: string, files: number) => {
  const environment = { treeStore: { measure: async () => ({ files }) }, self: { facts: { mounts: [] } } };
  const planned = { kind: 'volume', name: 'web.media', mount: { type: 'volume', name: 'v', source: '/v' } };
  const context = { snapshots: [], run: { id: 'r' } };
  const [deps, source, run] = [environment, planned, context] as unknown[];
  type Input = Parameters<typeof lookUpPaths>;
  return lookUpPaths(deps as Input[0], source as Input[1], [name, 'x'], run as Input[3]);
};

test('without a snapshot, only a directory with files is known', async () => {
  expect(await lookUp('data', 3)).toEqual(new Set(['data']));
  // It may have empty directories.
  expect(await lookUp('data', 0)).toBeUndefined();
  expect(await lookUp('Bücher', 3)).toBeUndefined();
  expect(await lookUp('a*', 3)).toBeUndefined();
});
