import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../../src/base/log.ts';
import { type ImportDumpDeps, importDump } from '../../src/import/import-dump.ts';
import type { PostgresSource } from '../../src/plan/model.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'lifeboat-import-'));
  mkdirSync(path.join(root, 'source'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Every use of the engine throws: a text that is refused must not reach a server. */
const deps = {
  agent: new Proxy({}, { get: () => expect.fail('the engine was used') }),
  recordHelper: () => expect.fail('a helper was recorded'),
} as unknown as ImportDumpDeps;
const planned = { name: 'db.postgres', kind: 'postgres', database: 'shop', user: 'shop' } as PostgresSource;
const DUMP = 'CREATE TABLE t (a int);\nCOPY public.t (a) FROM stdin;\n1\n2\n\\.\n';

test.each([
  ['a dump that is cut', DUMP],
  ['a dump that is cut within rows', DUMP.slice(0, 60)],
  ['another text', 'PRETTY_NAME="Debian"\n'],
  ['nothing', ''],
  ['binary data', '\0\xff\xfe'.repeat(1000)],
])('%s is refused before a server starts, and leaves nothing in the spool', async (_name, text) => {
  const context = {
    ...{ runId: 'r', spool: path.join(root, 'source'), log: silentLog, signal: new AbortController().signal },
    progress: () => undefined,
  };
  const dump = { form: 'text' as const, stream: Readable.from([Buffer.from(text)]) };
  await expect(importDump(deps, planned, dump, context)).rejects.toMatchObject({ code: 'IMPORT_UNREADABLE' });
  expect(readdirSync(root)).toEqual(['source']);
});
