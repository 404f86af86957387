import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { databasesOf } from '../../src/import/import-databases.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lifeboat-import-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const database = {
  ...{ name: 'shop', owner: 'shop', encoding: 'UTF8', collate: 'C', ctype: 'C', provider: 'libc', connectionLimit: -1 },
  ...{ size: 1, largeObjects: 0, contents: 'data', settings: [], extensions: [], owners: ['shop'] },
  grants: null as unknown,
  tables: [{ schema: 'public', name: 't', owner: 'shop', rows: 3, exact: true, bytes: 1 }],
};
const facts = {
  kind: 'postgres',
  server: { version: '17.4', versionNumber: 170004 },
  compression: 'zstd',
  databases: [database],
};
const manifest = {
  format: 1,
  kind: 'lifeboat export',
  source: 'db.postgres',
  snapshot: 'x',
  end: '2026-11-20T03:00:00.000Z',
  facts,
};

/** The bytes of a table of contents with these data files, as ReadHead and ReadToc in pg_backup_archiver.c read it. */
function toc(files: readonly string[]): Buffer {
  const integer = (value: number) => [
    value < 0 ? 1 : 0,
    ...[0, 8, 16, 24].map((shift) => (Math.abs(value) >> shift) & 255),
  ];
  const text = (value?: string) =>
    value === undefined ? integer(-1) : [...integer(value.length), ...Buffer.from(value)];
  const entry = (file: string, i: number) => [
    ...integer(i + 1),
    ...integer(1),
    ...text('0'),
    ...text('0'),
    ...text('t'),
    ...text('TABLE DATA'),
    ...integer(3),
    ...text(''),
    ...text(''),
    ...text(''),
    ...text('public'),
    ...text(),
    ...text(),
    ...integer(0),
    ...text('shop'),
    ...text('false'),
    ...text(),
    ...text(file),
  ];
  const head = [
    1,
    16,
    0,
    4,
    8,
    5,
    0,
    ...Array.from({ length: 7 }, () => integer(0)).flat(),
    ...text('shop'),
    ...text('17'),
    ...text('17'),
  ];
  return Buffer.from([...Buffer.from('PGDMP'), ...head, ...integer(files.length), ...files.flatMap(entry)]);
}

function fill(given: unknown = manifest) {
  mkdirSync(path.join(root, 'databases/shop'), { recursive: true });
  writeFileSync(path.join(root, 'manifest.json'), JSON.stringify(given));
  writeFileSync(path.join(root, 'README.txt'), 'x');
  writeFileSync(path.join(root, 'globals.sql'), '');
  writeFileSync(path.join(root, 'databases/shop/toc.dat'), toc(['1.dat']));
  writeFileSync(path.join(root, 'databases/shop/1.dat.zst'), '');
}

test('an export that is whole becomes the tree of its source', async () => {
  fill();
  const tree = await databasesOf(root);
  expect(tree).toMatchObject({
    summary: '1 database, 1 table, 3 rows',
    databases: [{ name: 'shop' }],
    facts: { rows: 3 },
  });
  expect(readdirSync(root).sort()).toEqual(['databases', 'globals.sql']);
});

test.each<[string, () => void, string]>([
  ['a content is missing', () => rmSync(path.join(root, 'databases/shop/1.dat.zst')), 'IMPORT_UNREADABLE'],
  ['the table of contents is missing', () => rmSync(path.join(root, 'databases/shop/toc.dat')), 'IMPORT_UNREADABLE'],
  [
    'the table of contents is cut',
    () => writeFileSync(path.join(root, 'databases/shop/toc.dat'), 'PGDMP'),
    'IMPORT_UNREADABLE',
  ],
  ['the roles are missing', () => rmSync(path.join(root, 'globals.sql')), 'IMPORT_UNREADABLE'],
  ['the manifest is missing', () => rmSync(path.join(root, 'manifest.json')), 'IMPORT_UNREADABLE'],
  [
    'there is a database that the manifest does not name',
    () => mkdirSync(path.join(root, 'databases/other')),
    'IMPORT_REFUSED',
  ],
  [
    'there is a file that does not belong there',
    () => writeFileSync(path.join(root, 'evil.sql'), ''),
    'IMPORT_REFUSED',
  ],
  ['there is a link', () => symlinkSync('/etc/passwd', path.join(root, 'databases/shop/2.dat')), 'IMPORT_REFUSED'],
])('refused: %s', async (_, harm, code) => {
  fill();
  harm();
  await expect(databasesOf(root)).rejects.toMatchObject({ code });
});

test.each<[string, object]>([
  ['of another format', { ...manifest, format: 2 }],
  ['without a database', { ...manifest, facts: { ...facts, databases: [] } }],
  ['with one twice', { ...manifest, facts: { ...facts, databases: [database, database] } }],
  [
    'with SQL for a privilege',
    {
      ...manifest,
      facts: { ...facts, databases: [{ ...database, grants: [{ privilege: 'ALL; DROP TABLE t; --' }] }] },
    },
  ],
])('refused: a manifest %s', async (_, given) => {
  fill(given);
  await expect(databasesOf(root)).rejects.toMatchObject({ code: 'IMPORT_UNREADABLE' });
});
