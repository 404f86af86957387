import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { dropDumpTime, settleRestrictKey } from '../../../../src/sources/postgres/dump/equal-dumps.ts';

let root: string;
let file: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lifeboat-equal-'));
  file = path.join(root, 'file');
});
afterEach(() => rmSync(root, { recursive: true }));

const int = (value: number) => {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt32LE(value, 1);
  return bytes;
};
/** The beginning of a table of contents: version 1.14 (Postgres 13 to 15) or later. */
function contents(minor: number, time: number[], magic = 'PGDMP'): Buffer {
  const head = Buffer.from([1, minor, 0, 4, 8, 3]);
  const compression = minor >= 15 ? Buffer.from([3]) : int(0);
  return Buffer.concat([
    Buffer.from(magic),
    head,
    compression,
    ...time.map(int),
    int(4),
    Buffer.from('shop'.repeat(20)),
  ]);
}
const TODAY = [13, 2, 3, 20, 10, 126, 0];
const LATER = [59, 59, 23, 31, 11, 127, 1];

async function after(content: Buffer | string, work: (file: string) => Promise<void>): Promise<Buffer> {
  writeFileSync(file, content);
  await work(file);
  return readFileSync(file);
}

test.each([14, 15, 16])('tables of contents of version 1.%i differ in nothing but their content', async (minor) => {
  const settled = await after(contents(minor, TODAY), dropDumpTime);
  expect(settled).toEqual(contents(minor, [0, 0, 0, 1, 0, 100, 0]));
  expect(await after(contents(minor, LATER), dropDumpTime)).toEqual(settled);
});

test.each([
  ['another kind of file', contents(15, TODAY, 'XXXXX')],
  ['no time', contents(15, [99, 2, 3, 20, 10, 126, 0])],
  ['a cut header', contents(15, TODAY).subarray(0, 20)],
  ['nothing', Buffer.alloc(0)],
])('%s stays as it is', async (_, content) => {
  expect(await after(content, dropDumpTime)).toEqual(content);
});

const script = (key: string, last = key, role = 'app') =>
  `-- dump\n\n\\restrict ${key}\n\nCREATE ROLE "${role}é";\n\n\\unrestrict ${last}\n\n-- complete\n`;
const [ONE, TWO] = ['aB3'.repeat(21), 'zY9'.repeat(21)];

test('the key of a script depends on nothing but the rest of the script', async () => {
  const settled = (await after(script(ONE), settleRestrictKey)).toString();
  const key = /^\\restrict ([0-9a-f]{63})$/m.exec(settled)?.[1] ?? '';
  expect(settled).toBe(script(key));
  expect((await after(script(TWO), settleRestrictKey)).toString()).toBe(settled);
  // A name with the key in it changes the key.
  const other = (await after(script(TWO, TWO, `x"\n\\unrestrict ${key}\n`), settleRestrictKey)).toString();
  expect(other).toBe(script(TWO, TWO, `x"\n\\unrestrict ${key}\n`));
  const named = (await after(script(TWO, TWO, key), settleRestrictKey)).toString();
  expect(named).not.toContain(`\\restrict ${key}`);
});

test.each([
  ['two keys', script(ONE, TWO)],
  ['one key', `\\restrict ${ONE}\n`],
  ['no key', '-- dump\n'],
])('a script with %s stays as it is', async (_, content) => {
  expect((await after(content, settleRestrictKey)).toString()).toBe(content);
});
