import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { leadingDirectoryWarnings } from '../../src/import/leading-directories.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lifeboat-leading-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test.each<[string, files: string[], has: string[], strip: number, advice: string | undefined]>([
  ['one directory that the source does not have', ['data/a', 'data/b/c'], ['a', 'b'], 0, '--strip 1'],
  ['the same, with a source whose names differ', ['data/a', 'data/b'], ['x'], 0, '--strip 1'],
  ['the same, with an empty source', ['data/a', 'data/b'], [], 0, '--strip 1'],
  ['a single file in it', ['data/app.db'], ['app.db'], 0, '--strip 1'],
  ['several levels', ['var/lib/volumes/x/_data/a', 'var/lib/volumes/x/_data/b'], ['b'], 0, '--strip 5'],
  ['several levels, the last of which the source has', ['backup/uploads/2026/a'], ['uploads'], 0, '--strip 1'],
  [
    'several levels, none of which it has',
    ['backup/2026/a'],
    ['x'],
    0,
    '--strip 1, or more, up to --strip 2, which removes backup/2026/',
  ],
  ['a level more than --strip removed', ['data/a'], ['a'], 1, '--strip 2'],
  ['a directory that the source has', ['data/a'], ['data', 'other'], 0, undefined],
  ['the only directory of the source', ['data/a/b'], ['data'], 0, undefined],
  ['two directories', ['data/a', 'more/b'], ['x'], 0, undefined],
  ['a file at the top', ['data/a', 'b'], ['x'], 0, undefined],
  ['a file alone', ['a'], ['x'], 0, undefined],
])('the content of an archive: %s', async (_, files, has, strip, advice) => {
  for (const file of files) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), 'x');
  }
  const knownOf = async (names: readonly string[]) => new Set(has.filter((name) => names.includes(name)));
  const warnings = await leadingDirectoryWarnings(root, { source: 'web.media', strip, knownOf });
  const [first] = (files[0] as string).split('/');
  expect(warnings).toEqual(
    advice === undefined
      ? []
      : [
          `everything in the archive is below ${first}/, which web.media does not have: a restore puts the files there. To put them at the top, import again with ${advice}`,
        ],
  );
});

test.each<[string, files: string[], has: string[], advice: string | undefined]>([
  ['most names are at the top', ['data/data/a', 'data/uploads/b', 'data/config'], ['data', 'uploads', 'config'], '1'],
  ['with a new one', ['data/data/a', 'data/uploads/b', 'data/new'], ['data', 'uploads', 'config'], '1'],
  ['two levels', ['data/x/data/a', 'data/x/uploads'], ['data', 'uploads'], '2'],
  [
    'as many are in place',
    ['data/data/a', 'data/uploads'],
    ['data', 'uploads', 'data/data', 'data/uploads'],
    undefined,
  ],
  ['few are at the top', ['data/config', 'data/b', 'data/c'], ['data', 'config'], undefined],
])('a directory that the source has, and %s', async (_, files, has, count) => {
  for (const file of files) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), 'x');
  }
  const knownOf = async (paths: readonly string[]) => new Set(has.filter((one) => paths.includes(one)));
  const warnings = await leadingDirectoryWarnings(root, { source: 'web.media', strip: 0, knownOf });
  const text = `everything in the archive is below data/, and the names in it are at the top of web.media: a restore puts the files there. To put them at the top, import again with --strip ${count}`;
  expect(warnings).toEqual(count === undefined ? [] : [text]);
});

test('a directory that the source may have is not called missing', async () => {
  mkdirSync(path.join(root, 'Bücher'));
  writeFileSync(path.join(root, 'Bücher', 'a'), 'x');
  const knownOf = async () => undefined;
  expect(await leadingDirectoryWarnings(root, { source: 'web.media', strip: 0, knownOf })).toEqual([
    'everything in the archive is below Bücher/, and whether web.media has that directory is not known: a restore puts the files there. To put them at the top, import again with --strip 1',
  ]);
});
