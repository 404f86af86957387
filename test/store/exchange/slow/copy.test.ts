import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { copyTree } from '../../../../src/store/exchange/copy-tree.ts';
import { swapBuilt } from '../../../../src/store/exchange/volume-areas.ts';
import { areaName, DATA_ROOT } from '../../../../src/store/filesystem/area.ts';
import { scratchBase } from '../../helpers.ts';
import { AT, ID } from '../volume-bench.ts';

/** A tree from another volume replaces the content of a volume. */

let root: string;
let from: string;
let volume: string;
const { signal } = new AbortController();
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-copy-'));
  [from, volume] = [join(root, 'from'), join(root, 'volume')];
  mkdirSync(join(from, 'base/1'), { recursive: true });
  mkdirSync(join(volume, 'base'), { recursive: true });
  chmodSync(from, 0o750);
  writeFileSync(join(from, 'PG_VERSION'), '17\n', { mode: 0o600 });
  writeFileSync(join(from, 'base/1/16384'), Buffer.alloc(100_000, 7), { mode: 0o640 });
  symlinkSync('../elsewhere', join(from, 'link'));
  writeFileSync(join(volume, 'base/old'), 'old');
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const copy = (needed = 0) => copyTree({ root: volume, id: ID, needed, from, signal, progress: () => undefined });
const mode = (path: string) => (lstatSync(path).mode & 0o7777).toString(8);

test('a copied tree is swapped in, with the modes of all of it, and the old one is put aside', async () => {
  const { areas, files, bytes } = await copy();
  expect({ files, bytes }).toEqual({ files: 2, bytes: 100_003 });
  expect(readFileSync(join(volume, 'base/old'), 'utf8')).toBe('old');
  const swapped = { root: volume, id: ID, at: AT, whole: true, areas, snapshot: ID };
  await swapBuilt({ ...swapped, ended: () => true });
  expect(readdirSync(volume).sort()).toEqual([areaName('before', ID), 'PG_VERSION', 'base', 'link']);
  expect(readFileSync(join(volume, 'base/1/16384')).equals(Buffer.alloc(100_000, 7))).toBe(true);
  expect([volume, join(volume, 'PG_VERSION'), join(volume, 'base/1/16384')].map(mode)).toEqual(['750', '600', '640']);
  expect(lstatSync(join(volume, 'link')).isSymbolicLink()).toBe(true);
  expect(readFileSync(join(volume, areaName('before', ID), 'tree/base/old'), 'utf8')).toBe('old');
});

test('a copy that does not fit, or that ends early, leaves nothing behind', async () => {
  await expect(copy(1e18)).rejects.toMatchObject({ code: 'TREE_TARGET_FULL' });
  const over = AbortSignal.abort(new Error('stopped'));
  const options = { root: volume, id: ID, needed: 0, from, progress: () => undefined };
  await expect(copyTree({ ...options, signal: over })).rejects.toThrow('stopped');
  expect(readdirSync(volume)).toEqual(['base']);
});

test('areas in a data directory have names that base backups leave out', () => {
  expect(areaName('before', ID, `${DATA_ROOT}/18/docker`)).toBe(`pgsql_tmp.lifeboat-before-${ID}`);
  expect(areaName('before', ID, DATA_ROOT)).toMatch(/^pgsql_tmp/);
  expect(areaName('before', ID, '/source')).toBe(`.lifeboat-before-${ID}`);
});
