import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';

/** Modules that work in a volume, where other programs may plant symlinks. */
const IN_VOLUMES = [
  ...['build-tree', 'differing', 'compare-tree', 'exchange', 'exchange-plan', 'extract-tree', 'live-file', 'movable'],
  ...[
    'move-list',
    'new-tree',
    'open-directories',
    'remove-tree',
    'directory-meta',
    'times',
    'tree-extraction',
    'tree-storing',
  ],
  ...['tree-sum', 'volume-areas', 'walk', 'write-file'],
  ...['known-area', 'list-areas', 'own-area', 'root-base', 'undo-exchange'],
];

/**
 * Calls on descriptors, and types. Calls with a path are allowed if they get only `/proc/self/fd/…` or a path of
 * Lifeboat's own.
 */
const HARMLESS = /^(f[a-z]+Sync|closeSync|read|write|writeSync|constants|type \w+|BigIntStats)$/;
const ALLOWED: Record<string, string[]> = {
  // Between two descriptors.
  'live-file': ['copyFile'],
  // On a descriptor.
  'root-base': ['readFileSync', 'writeFileSync'],
  'move-list': ['createReadStream'],
  // Path of the spool.
  'tree-storing': ['realpath'],
  // The directory that a caller names, before anyone writes there; openPath opens it afterwards.
  'extract-tree': ['mkdir'],
};

const STORE = join(import.meta.dirname, '../../src/store');
const PATHS = readdirSync(STORE, { recursive: true, encoding: 'utf8' });

function read(name: string): string {
  const found = PATHS.filter((one) => basename(one) === `${name}.ts`);
  expect(found, name).toHaveLength(1);
  return readFileSync(join(STORE, found[0] as string), 'utf8');
}

test('code that works in a volume passes no paths to the system, only open directories', () => {
  const found = IN_VOLUMES.flatMap((name) => {
    const text = read(name);
    const imports = [...text.matchAll(/import (?:type )?\{([^}]*)\} from 'node:fs(?:\/promises)?'/g)];
    const names = imports.flatMap(([, list = '']) => list.split(',').map((one) => one.trim().replace(/ as .*/, '')));
    return names
      .filter((one) => one !== '' && !HARMLESS.test(one) && !ALLOWED[name]?.includes(one))
      .map((one) => `${name}: ${one}`);
  });
  expect(found).toEqual([]);
  // The allowed calls get descriptors.
  expect(read('live-file')).toMatch(/copyFile\(`\/proc\/self\/fd\/\$\{source\}`, `\/proc\/self\/fd\/\$\{copy\}`/);
  expect(read('root-base')).toMatch(/\bwriteFileSync\(file,/);
  expect(read('move-list')).toContain("createReadStream('', { fd })");
});
