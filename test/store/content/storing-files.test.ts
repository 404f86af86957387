import { mkdirSync, readdirSync, readlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ContentTable } from '../../../src/store/known/content-table.ts';
import { storeMembers } from '../../../src/trees/store-members.ts';
import { type Bench, createBench } from '../helpers.ts';

const OF = 'shop';

let bench: Bench;
let known: Parameters<Bench['store']>[0];
beforeEach(async () => {
  bench = createBench();
  const table = path.join(bench.spool, 'contents');
  const packs = path.join(bench.spool, 'packs.ndjson');
  await (await ContentTable.write(table, OF)).close();
  writeFileSync(packs, '');
  known = { known: { table, of: OF, packs, without: [], coversPrevious: false } };
});
afterEach(() => bench.remove());

/** The files of the bench that this process has open. */
function openFiles(): string[] {
  const base = path.dirname(bench.tree);
  const links = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return links.filter((link) => link.startsWith(base));
}

const storeStream = () =>
  storeMembers({
    ...{ project: 'shop', source: 'web.media', destination: bench.destination, keys: {} },
    ...{ indexPath: bench.index, recordObject: async () => {}, ...known },
    members: (async function* () {})(),
  });

describe.each([
  ['a tree', () => bench.store(known)],
  ['a stream', storeStream],
])('storing %s', (_, store) => {
  test.each(['partial', 'parts'])('closes all files if it cannot create that of %s', async (ending) => {
    mkdirSync(path.join(`${bench.index}.${ending}`, 'in-the-way'), { recursive: true });
    await expect(store()).rejects.toThrow(/EEXIST|EISDIR/);
    expect(openFiles()).toEqual([]);
  });
});
