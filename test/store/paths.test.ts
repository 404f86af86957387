import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

/** What works in a volume, where others may plant symlinks. */
const IN_VOLUMES = [
  ...['build-beside', 'differing', 'compare-tree', 'exchange', 'exchange-plan', 'extract-tree', 'live-file', 'movable'],
  ...['move-list', 'new-tree', 'open-directories', 'remove-tree', 'settle', 'times', 'tree-extraction', 'tree-storing'],
  ...['tree-sum', 'volume-areas', 'walk', 'write-file'],
];

/** Calls on descriptors, and types. Of those that take a path: what is only given `/proc/self/fd/…`, or a path of our own. */
const HARMLESS = /^(f[a-z]+Sync|closeSync|read|write|writeSync|constants|type \w+|BigIntStats)$/;
const ALLOWED: Record<string, string[]> = {
  // Between two descriptors.
  'live-file': ['copyFile'],
  // On a descriptor.
  'build-beside': ['readFileSync', 'writeFileSync'],
  'move-list': ['createReadStream'],
  // Of the spool.
  'tree-storing': ['realpath'],
  // The directory that a caller names, before anybody writes there; it is opened by openPath after that.
  'extract-tree': ['mkdir'],
};

test('what works in a volume names no path to the system: only open directories do', () => {
  const found = IN_VOLUMES.flatMap((name) => {
    const text = readFileSync(join(import.meta.dirname, '../../src/store', `${name}.ts`), 'utf8');
    const imports = [...text.matchAll(/import (?:type )?\{([^}]*)\} from 'node:fs(?:\/promises)?'/g)];
    const names = imports.flatMap(([, list = '']) => list.split(',').map((one) => one.trim().replace(/ as .*/, '')));
    return names
      .filter((one) => one !== '' && !HARMLESS.test(one) && !ALLOWED[name]?.includes(one))
      .map((one) => `${name}: ${one}`);
  });
  expect(found).toEqual([]);
  // The allowed ones are given descriptors.
  const source = (name: string) => readFileSync(join(import.meta.dirname, '../../src/store', `${name}.ts`), 'utf8');
  expect(source('live-file')).toMatch(/copyFile\(`\/proc\/self\/fd\/\$\{source\}`, `\/proc\/self\/fd\/\$\{copy\}`/);
  expect(source('build-beside')).toMatch(/\bwriteFileSync\(file,/);
  expect(source('move-list')).toContain("createReadStream('', { fd })");
});
