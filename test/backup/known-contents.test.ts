import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { RunContext } from '../../src/backup/context.ts';
import { prepareKnown } from '../../src/backup/known-contents.ts';
import { previousTree } from '../../src/backup/previous-tree.ts';
import { type ErrorCode, LifeboatError } from '../../src/base/errors.ts';
import { silentLog } from '../../src/base/log.ts';
import { lastStoredOf } from '../../src/run/history.ts';
import { openState } from '../../src/run/state.ts';
import { renewalRule } from '../../src/store/content/repack.ts';
import { ContentTable } from '../../src/store/known/content-table.ts';
import { Slots } from '../../src/store/known/slots.ts';
import { StoredSizes } from '../../src/store/objects/key-set.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';
import { encodePackList } from '../../src/store/objects/pack-list.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'known-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const MEDIA = 'web.media';
const OF = 'one shop';
const index = { key: 'shop/index', size: 10, sha256: 'a'.repeat(64) };
const manifest = {
  ...{ id: '20261120T030000Z-4f1c9a', end: '2026-11-20T03:00:00.000Z' },
  sources: { [MEDIA]: { kind: 'volume', status: 'ok', index } },
} as unknown as Manifest;

/** Prepares a run whose requests for the last index fail like this, one after the other, and finds its last tree. */
async function prepare(failures: ErrorCode[]) {
  const left = [...failures];
  const repository = {
    ...{ info: { id: 'one' }, project: 'shop', keys: {} },
    fetchIndex: async (_: unknown, file: string) => {
      const code = left.shift();
      if (code) throw new LifeboatError(code, 'no index');
      await writeFile(file, '');
    },
  };
  const context = {
    ...{ repository, snapshots: [{ manifest }], stored: new StoredSizes(), log: silentLog },
    ...{ signal: AbortSignal.timeout(100_000), run: { trigger: 'manual', sources: [MEDIA] } },
  } as unknown as RunContext;
  const memory = { state: openState(path.join(directory, 'state')), context, renewal: renewalRule(0.05) };
  const known = await prepareKnown({ ...memory, directory: path.join(directory, 'known') });
  if (known) context.known = known;
  const last = lastStoredOf([manifest], MEDIA);
  return { left, ...(await previousTree(memory, MEDIA, last, directory)) };
}

test.each<ErrorCode>(['DEST_UNREACHABLE', 'SPOOL_FULL'])(
  'a brief %s does not make a source be stored again',
  async (code) => {
    const { tree, warnings, left } = await prepare([code]);
    expect(left).toEqual([]);
    expect(warnings).toEqual([]);
    expect(tree).toBeDefined();
  },
);

test.each<ErrorCode>(['OBJECT_MISSING', 'OBJECT_DAMAGED', 'KEY_MISSING', 'KEY_WRONG'])(
  'after %s, the last index is not asked for again: a service may be stopped by then',
  async (code) => {
    const { tree, warnings, left } = await prepare([code, code]);
    expect(left).toEqual([code]);
    expect(warnings).toEqual([expect.stringContaining(code)]);
    expect(tree).toBeUndefined();
  },
);

describe('the table of contents', () => {
  const packOf = (id: string) => ({
    ...{ id: id.repeat(32), key: `shop/packs/web.media/${id.repeat(2)}/${id.repeat(32)}.zip` },
    ...{ size: 100, sha256: id.repeat(64), plainSize: 100 },
  });
  const [kept, returned] = [packOf('b'), packOf('c')];
  const fact = { kind: 'file', sha256: 'd'.repeat(64), size: 5, pack: kept.id, entry: 'file' } as const;
  const table = () => path.join(directory, 'state', 'contents');

  beforeEach(async () => {
    mkdirSync(path.join(directory, 'state'));
    const filled = await ContentTable.write(table(), OF);
    await filled.add(fact);
    filled.cover(index.sha256);
    await filled.close();
  });

  async function find(): Promise<unknown> {
    const read = ContentTable.read(table(), OF);
    const found = read?.find(fact);
    await read?.close();
    return found;
  }

  /**
   * Prepares a run with two sources. A pack of the second one has returned.
   *
   * @param list of the first one, whose pack the table names; absent: it cannot be read
   */
  async function prepareReturned(list?: Buffer): Promise<void> {
    // The pack of the other source could not be used, so the table is made again.
    writeFileSync(`${table()}.others`, `{"id":"${returned.id}"}\n`);
    const lists = new Map([
      ['kept', list],
      ['returned', encodePackList([returned])],
    ]);
    const listed = (key: string) => ({ key, size: 1, sha256: key.padEnd(64, 'e') });
    const sources = {
      [MEDIA]: { ...manifest.sources[MEDIA], packs: listed('kept') },
      'web.other': { ...manifest.sources[MEDIA], packs: listed('returned') },
    };
    const repository = {
      ...{ info: { id: 'one' }, project: 'shop', keys: {} },
      fetchIndex: async (_: unknown, file: string) => writeFile(file, ''),
      readPackList: async ({ key }: { key: string }) => {
        const lines = lists.get(key);
        if (!lines) throw new LifeboatError('OBJECT_DAMAGED', 'no list');
        return lines;
      },
    };
    const stored = new StoredSizes();
    stored.add(returned);
    const context = {
      ...{ repository, snapshots: [{ manifest: { ...manifest, sources } }], stored, log: silentLog },
      ...{ signal: AbortSignal.timeout(100_000), run: { trigger: 'manual', sources: [] } },
    } as unknown as RunContext;
    const memory = { state: openState(path.join(directory, 'state')), context, renewal: renewalRule(0.05) };
    await prepareKnown({ ...memory, directory: path.join(directory, 'known') });
  }

  test('keeps the contents of packs that a list names that cannot be read now', async () => {
    await prepareReturned();
    expect(await find()).toEqual(fact);
    // The next run, which may read all lists, knows that a pack has returned.
    expect(readFileSync(`${table()}.others`, 'utf8')).toContain(returned.id);
  });

  test('is made again by the next run if the disk is full while a pack has returned', async () => {
    const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    const { flush } = Slots.prototype;
    const flushing = vi.spyOn(Slots.prototype, 'flush').mockImplementation(async function (this: Slots) {
      if (existsSync(`${table()}.new`)) throw full;
      await flush.call(this);
    });
    const others = () => readFileSync(`${table()}.others`, 'utf8');
    await prepareReturned(encodePackList([kept]));
    flushing.mockRestore();
    expect(await find()).toEqual(fact);
    expect(others()).toContain(returned.id);
    await prepareReturned(encodePackList([kept]));
    expect(others()).not.toContain(returned.id);
  });

  test.each(['ENOSPC', 'EDQUOT'])('stays if the disk of the spool is full (%s)', async (code) => {
    const full = Object.assign(new Error('no space left'), { code });
    const covering = vi.spyOn(ContentTable.prototype, 'coverOnly').mockImplementation(() => {
      throw full;
    });
    await prepare([]);
    covering.mockRestore();
    expect(await find()).toEqual(fact);
  });

  test('is removed after any other failure', async () => {
    const covering = vi.spyOn(ContentTable.prototype, 'coverOnly').mockImplementation(() => {
      throw new RangeError('a number out of range');
    });
    await prepare([]);
    covering.mockRestore();
    expect(await find()).toBeUndefined();
  });
});
