/**
 * Runs one step in a process of its own, to measure its peak memory: `store`, `again` or `extract`, and a directory.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLocalDestination } from '../../../../src/destinations/local.ts';
import { extractTree } from '../../../../src/store/content/extract-tree.ts';
import { storeTree } from '../../../../src/store/content/store-tree.ts';
import { readIndexFileLines } from '../../../../src/store/filesystem/read-index.ts';
import type { PackRef } from '../../../../src/store/packs/pack-stream.ts';

const [step, base = ''] = process.argv.slice(2);
for (const name of ['repo', 'spool']) mkdirSync(join(base, name), { recursive: true });
const destination = createLocalDestination({ root: join(base, 'repo') });
const indexPath = join(base, 'index');
const packsFile = join(base, 'packs.json');
const packs = (): PackRef[] => JSON.parse(readFileSync(packsFile, 'utf8')) as PackRef[];
const start = performance.now();
let files: number;
if (step === 'extract') {
  const target = join(base, 'out');
  const spool = join(base, 'spool');
  ({ files } = await extractTree({
    index: readIndexFileLines(indexPath),
    packs: packs(),
    destination,
    keys: {},
    target,
    spool,
    owner: true,
  }));
} else {
  const stored = await storeTree({
    root: join(base, 'tree'),
    project: 'shop',
    source: 'web.media',
    destination,
    keys: {},
    indexPath,
    recordObject: async () => {},
    ...(step === 'again' ? { previous: { indexPath, packs: packs() } } : {}),
  });
  files = stored.files;
  writeFileSync(packsFile, JSON.stringify(stored.packs));
}
const seconds = (performance.now() - start) / 1000;
process.stdout.write(JSON.stringify({ files, maxRss: process.resourceUsage().maxRSS * 1024, seconds }));
