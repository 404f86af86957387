import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Directory } from '../../../../src/store/filesystem/directory.ts';
import { removePath, removeTree } from '../../../../src/store/filesystem/remove-tree.ts';
import { scratchBase } from '../../helpers.ts';

/** Deeper than recursion or the descriptors of a process allow; the path is too long for a system call. */
const DEPTH = 12_500;

let base: string;
let parent: Directory;

beforeEach(() => {
  base = mkdtempSync(join(scratchBase, 'lifeboat-remove-'));
  parent = Directory.open(base);
});
afterEach(async () => {
  parent.close();
  await removePath(join(base, '..'), base.slice(base.lastIndexOf('/') + 1));
});

/** Nested directories, each with a file, and a link out of the tree at the bottom. */
function plantDeep(name: string): void {
  let at = parent.make(name);
  for (let depth = 0; depth < DEPTH; depth++) {
    if (depth % 50 === 0) writeFileSync(at.at('file'), 'x');
    const next = at.make('d');
    at.close();
    at = next;
  }
  at.createLink('out', join(base, 'other'));
  at.close();
}

test.each([
  ['removeTree', async () => removeTree(parent, 'tree')],
  ['removePath', () => removePath(base, 'tree')],
])('%s removes a tree of any depth, and nothing else', async (_name, remove) => {
  mkdirSync(join(base, 'other'));
  writeFileSync(join(base, 'other/kept'), 'x');
  plantDeep('tree');
  await remove();
  expect(readdirSync(base)).toEqual(['other']);
  expect(existsSync(join(base, 'other/kept'))).toBe(true);
  // Removing it again succeeds.
  await remove();
});

test('each removed name is reported, and deep and wide branches are removed too', () => {
  for (const branch of ['a', 'b', '.lifeboat-removing-0']) {
    mkdirSync(join(base, 'tree', branch, ...Array.from({ length: 150 }, () => 'n')), { recursive: true });
    mkdirSync(join(base, 'tree', branch, ...Array.from({ length: 70 }, () => 'n'), 'm/m'), { recursive: true });
  }
  let heard = 0;
  removeTree(parent, 'tree', () => heard++);
  expect(existsSync(join(base, 'tree'))).toBe(false);
  expect(heard).toBe(1 + 3 * (1 + 150 + 2));
});

test('a link in place of the tree is removed, but not its target', async () => {
  mkdirSync(join(base, 'other/kept'), { recursive: true });
  symlinkSync(join(base, 'other'), join(base, 'tree'));
  await removePath(base, 'tree');
  expect(readdirSync(base)).toEqual(['other']);
  expect(readdirSync(join(base, 'other'))).toEqual(['kept']);
});

// As an application does that goes on writing into a tree that is removed.
test('names that another program adds and exchanges during the removal are removed, too', async () => {
  for (const branch of ['a', 'b/c']) mkdirSync(join(base, 'tree', branch), { recursive: true });
  for (let i = 0; i < 20; i++) writeFileSync(join(base, 'tree/b/c', `f${i}`), 'x');
  let heard = 0;
  removeTree(parent, 'tree', () => {
    heard++;
    if (heard > 40) return;
    for (const branch of ['', 'a', 'b', 'b/c']) {
      if (existsSync(join(base, 'tree', branch))) symlinkSync('/nowhere', join(base, 'tree', branch, `new${heard}`));
    }
    rmSync(join(base, 'tree/b/c', `f${heard}`), { force: true });
    if (existsSync(join(base, 'tree/b'))) mkdirSync(join(base, 'tree/b', `now-a-directory${heard}`));
  });
  expect(readdirSync(base)).toEqual([]);
  expect(heard).toBeGreaterThan(40);
});

test('a program that never stops adding names ends the removal with an error', () => {
  mkdirSync(join(base, 'tree/a'), { recursive: true });
  let heard = 0;
  const add = () => {
    heard++;
    writeFileSync(join(base, 'tree/a', `new${heard}`), 'x');
  };
  add();
  expect(() => removeTree(parent, 'tree', add)).toThrow(expect.objectContaining({ code: 'ENOTEMPTY' }));
});
