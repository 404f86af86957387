import { mkdtempSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RunContext } from '../../src/backup/context.ts';
import { sameDocuments } from '../../src/backup/same-documents.ts';
import type { SealKeys } from '../../src/plan/seal-keys.ts';
import { openState, type State } from '../../src/run/state.ts';
import { StoredSizes } from '../../src/store/objects/key-set.ts';
import type { ManifestSource } from '../../src/store/objects/manifest.ts';
import { keyId } from '../../src/store/seal/encryption.ts';
import { scratchBase } from '../store/helpers.ts';

const SOURCE = 'web.media';
const FACTS = { kind: 'volume', name: 'shop_media' };
const sha256 = (digit: string) => digit.repeat(64);
const index = { key: 'index', size: 3, sha256: sha256('1') };
const facts = { key: 'facts', size: 2, sha256: sha256('2') };
const packs = { key: 'list', size: 4, sha256: sha256('3'), count: 1 };

let root: string;
let state: State;
let stored: StoredSizes;
const file = (name: string, content: string) => {
  writeFileSync(path.join(root, name), content);
  return path.join(root, name);
};
beforeEach(async () => {
  root = mkdtempSync(path.join(scratchBase, 'lifeboat-same-'));
  state = openState(path.join(root, 'state'));
  stored = new StoredSizes();
  for (const object of [index, facts, packs]) stored.add(object);
  await state.cacheIndex(SOURCE, index.sha256, file('old', 'lines\n'.repeat(100_000)));
  await state.cacheFacts(SOURCE, facts.sha256, FACTS);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

interface Given {
  last?: object;
  lines?: string;
  now?: object;
  keys?: SealKeys;
  stored?: StoredSizes | undefined;
}

function find(given: Given = {}) {
  const { last, lines = 'lines\n'.repeat(100_000), now = FACTS, keys = {} } = given;
  const there = 'stored' in given ? given.stored : stored;
  const context = { repository: { keys }, ...(there ? { stored: there } : {}) } as unknown as RunContext;
  const entry = { index, facts, packs, ...last } as unknown as ManifestSource;
  return sameDocuments({ state, context }, SOURCE, entry, { facts: now, indexPath: file('new', lines) });
}

test('a source that has not changed shares its index and facts', async () => {
  expect(await find()).toEqual({ index, facts });
  expect(await find({ now: { name: 'shop_media', kind: 'volume' } })).toEqual({ index, facts });
});

test('what has changed is stored', async () => {
  expect(await find({ now: { ...FACTS, name: 'other' } })).toEqual({ index });
  const lines = 'lines\n'.repeat(100_000);
  for (const other of [`${lines}x`, lines.slice(1), '', `${lines.slice(0, -2)}X\n`, `X${lines.slice(1)}`])
    expect(await find({ lines: other })).toEqual({ facts });
});

test('a comparison leaves no file open, also if the new index cannot be opened', async () => {
  const openFiles = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).startsWith(root);
      } catch {
        return false;
      }
    });
  await find();
  expect(openFiles()).toEqual([]);
  const context = { repository: { keys: {} }, stored } as unknown as RunContext;
  const entry = { index, facts, packs } as unknown as ManifestSource;
  const now = { facts: FACTS, indexPath: path.join(root, 'gone') };
  await expect(sameDocuments({ state, context }, SOURCE, entry, now)).rejects.toThrow('ENOENT');
  expect(openFiles()).toEqual([]);
});

test('documents that are missing, cut or damaged are stored again', async () => {
  const some = new StoredSizes();
  some.add({ ...index, size: 2 });
  some.add(facts);
  expect(await find({ stored: some })).toEqual({ facts });
  expect(await find({ stored: undefined })).toEqual({});
  await state.saveDamaged([facts.key]);
  expect(await find()).toEqual({ index });
});

test('documents of other keys are not shared: the present keys could not read them, or everybody could', async () => {
  const keys = { gpgPassphrase: 'x' } as SealKeys;
  expect(await find({ keys })).toEqual({});
  expect(await find({ keys, last: { packs: { ...packs, keyId: keyId(keys) } } })).toEqual({ index, facts });
  expect(await find({ last: { packs: { ...packs, keyId: 'others' } } })).toEqual({});
  // Without packs, nothing shows which keys it has.
  expect(await find({ last: { packs: undefined } })).toEqual({});
});

test('documents that the spool does not have are stored', async () => {
  rmSync(path.join(root, 'state'), { recursive: true });
  expect(await find()).toEqual({});
});
