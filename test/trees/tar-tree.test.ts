import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import type { TarTree } from '../../src/sources/source.ts';
import { addIndex } from '../../src/store/known/add-index.ts';
import { ContentTable } from '../../src/store/known/content-table.ts';
import { encodePackList } from '../../src/store/objects/pack-list.ts';
import { storeTar } from '../../src/trees/tar-tree.ts';
import { createBench } from '../store/helpers.ts';

test('a tree that arrives as a tar stores nothing that a kept snapshot of another source holds', async () => {
  const bench = createBench();
  try {
    mkdirSync(path.join(bench.tree, 'base'));
    writeFileSync(path.join(bench.tree, 'base/large'), randomBytes(10_000_000));
    writeFileSync(path.join(bench.tree, 'small'), randomBytes(10_000));
    const other = await bench.store();
    const [of, directory, packs] = ['repository shop', path.join(bench.spool, 'contents'), `${bench.spool}/packs`];
    const table = await ContentTable.write(directory, of);
    await addIndex(table, bench.index, { isKept: () => true });
    await table.close();
    writeFileSync(packs, encodePackList(other.packs));
    const bytes = execFileSync('tar', ['-C', bench.tree, '-c', '.'], { maxBuffer: 20_000_000 });
    const pieces = Array.from({ length: bytes.length / 512 }, (_, i) => bytes.subarray(i * 512, i * 512 + 512));
    const tar: TarTree = { read: (work) => work(Readable.from(pieces)), seen: {}, check: async () => undefined };
    const stored = await storeTar(
      tar,
      {
        ...{ project: 'shop', source: 'db.base', indexPath: bench.index, journal: `${bench.spool}/journal` },
        ...{ spool: bench.spool, sqlite: false },
        known: { table: directory, of, packs, without: [], coversPrevious: false },
      },
      { destination: bench.destination, keys: {} },
      { signal: AbortSignal.timeout(60_000), progress: () => undefined },
    );
    expect(stored).toMatchObject({ newBytes: 0, newFiles: 0, files: 2, bytes: 10_010_000 });
    await bench.extract(stored, { owner: false });
  } finally {
    bench.remove();
  }
});
