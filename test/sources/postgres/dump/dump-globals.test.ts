import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { dumpGlobals } from '../../../../src/sources/postgres/dump/dump-globals.ts';
import type { Tools } from '../../../../src/sources/postgres/server/tools.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-globals-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const dump = (run: (argv: readonly string[], signal: AbortSignal) => Promise<string>) => {
  const connection = { user: 'app', port: 5432, application: 'lifeboat' };
  const tools = { container: 'shop-db-1', connection, database: 'app', run, activity: async () => 'waiting' };
  const { signal } = new AbortController();
  return dumpGlobals({ tools: tools as unknown as Tools, directory, stallTimeoutMs: 150, signal });
};

test('roles that are stored without passwords are told of', async () => {
  const asked: boolean[] = [];
  const warnings = await dump(async (argv) => {
    asked.push(!argv.includes('--no-role-passwords'));
    if (asked.length > 1) return '';
    throw new LifeboatError('EXEC_FAILED', 'pg_dumpall: error: permission denied for table pg_authid');
  });
  expect(asked).toEqual([true, false]);
  expect(warnings).toEqual([expect.stringContaining('roles are stored without their passwords')]);
  expect(await dump(async () => '')).toEqual([]);
});

test('another failure is none of a missing right', async () => {
  const failed = dump(async () => {
    throw new LifeboatError('EXEC_FAILED', 'pg_dumpall: error: server closed the connection');
  });
  await expect(failed).rejects.toMatchObject({ code: 'EXEC_FAILED' });
});

test('a dump of the roles that makes no progress is ended', async () => {
  const stalled = dump(
    (_, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  );
  await expect(stalled).rejects.toMatchObject({
    code: 'PG_STALLED',
    message: expect.stringContaining('the dump of the roles in shop-db-1'),
  });
});
