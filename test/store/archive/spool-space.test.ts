import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { SpoolSpace, writeSpoolFile } from '../../../src/store/archive/spool-space.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(path.join(tmpdir(), 'lifeboat-space-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

async function* endless() {
  const chunk = Buffer.alloc(1024 * 1024);
  for (;;) yield chunk;
}

test('a file that does not end is refused before the disk is full', async () => {
  const file = path.join(base, 'dump');
  const written = writeSpoolFile(endless(), file, { mode: 0o600, what: 'the dump', reserve: Number.MAX_SAFE_INTEGER });
  await expect(written).rejects.toMatchObject({ code: 'SPOOL_FULL', message: 'the spool has no room for the dump' });
  expect(existsSync(file) ? statSync(file).size : 0).toBe(0);
});

test('a file that fits is written, with its mode', async () => {
  const file = path.join(base, 'dump');
  await writeSpoolFile(
    (async function* () {
      yield Buffer.from('con');
      yield Buffer.from('tent');
    })(),
    file,
    { mode: 0o440, what: 'the dump' },
  );
  expect([readFileSync(file, 'utf8'), statSync(file).mode & 0o777]).toEqual(['content', 0o440]);
});

test('the error of a full disk is SPOOL_FULL, and others stay as they are', () => {
  const space = new SpoolSpace(base, 'the dump');
  const error = Object.assign(new Error('full'), { code: 'ENOSPC' });
  expect(space.explain(error)).toMatchObject({ code: 'SPOOL_FULL', cause: error });
  const other = new Error('other');
  expect(space.explain(other)).toBe(other);
});
