import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { unpack } from '../../../src/store/archive/unpack.ts';

let target: string;
beforeEach(() => {
  target = mkdtempSync(path.join(tmpdir(), 'lifeboat-names-'));
});
afterEach(() => rmSync(target, { recursive: true, force: true }));

const unpackNames = (names: readonly string[], strip: number) => {
  async function* members() {
    for (const name of names) {
      yield { name, type: 'file' as const, mtime: 0n, size: 1, content: () => Readable.from([Buffer.from('x')]) };
    }
  }
  return unpack({ members: members(), target, strip });
};
const files = () => readdirSync(target, { recursive: true }).toSorted();

test.each([
  [0, ['backup', 'backup/media', 'backup/media/a', 'backup/media/b']],
  [2, ['a', 'b']],
])('a leading / is dropped, and --strip %i counts after it', async (strip, expected) => {
  await unpackNames(['/backup/media/a', '///backup/media/b'], strip);
  expect(files()).toEqual(expected);
});

test.each(['/../evil', '/a/../../evil', '../evil'])('%s is refused', async (name) => {
  await expect(unpackNames([name], 0)).rejects.toMatchObject({ code: 'IMPORT_REFUSED' });
  expect(files()).toEqual([]);
});
