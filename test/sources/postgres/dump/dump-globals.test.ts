import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { dumpGlobals, dumpKnownGlobals, dumpMissingRoles } from '../../../../src/sources/postgres/dump/dump-globals.ts';
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

test('a warning reports roles that are stored without passwords', async () => {
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

/** A server whose list of roles changes with each query, up to the last one. Counts the dumps. */
function server(...lists: string[][]) {
  const dumps: string[][] = [];
  const tools = {
    container: 'shop-db-1',
    connection: { user: 'app', port: 5432, application: 'lifeboat' },
    control: async () => ({
      all: async () => ((lists.length > 1 ? lists.shift() : lists[0]) ?? []).map((name) => ({ name })),
    }),
    run: async (argv: string[]) => void dumps.push(argv),
    activity: async () => 'at work',
  };
  const { signal } = new AbortController();
  return { dumps, options: { tools: tools as unknown as Tools, directory, stallTimeoutMs: 5000, signal } };
}

const database = (owner: string, more: { owners?: string[]; grantees?: string[] } = {}) => ({
  ...{ name: 'shop', owner, owners: [], settings: [{ role: null, config: [] }] },
  ...more,
});

test('globals that have all roles of the databases are dumped once', async () => {
  const { dumps, options } = server(['app', 'reader']);
  const { roles } = await dumpKnownGlobals(options);
  const databases = [database('app', { owners: ['app'], grantees: ['reader', 'pg_monitor'] })];
  expect(await dumpMissingRoles(options, databases, roles)).toEqual([]);
  expect(dumps).toHaveLength(1);
});

test('a role that was created during or after the dump of the globals causes a second dump', async () => {
  for (const lists of [
    [['app'], ['app'], ['app', 'late']],
    [['app'], ['app', 'late']],
  ]) {
    const { dumps, options } = server(...lists);
    const { roles } = await dumpKnownGlobals(options);
    expect(await dumpMissingRoles(options, [database('app', { owners: ['late'] })], roles)).toEqual([]);
    expect(dumps).toHaveLength(2);
  }
});

test('a warning names a role that was dropped before the dump of the globals, and the statement that a restore needs', async () => {
  const { options } = server(['app']);
  const { roles } = await dumpKnownGlobals(options);
  expect(await dumpMissingRoles(options, [database('app', { owners: ['old one'] })], roles)).toEqual([
    'role old one was dropped during the backup, and shop still names it: a restore to a server without it needs CREATE ROLE "old one" first',
  ]);
});

test('another failure does not count as a missing right', async () => {
  const failed = dump(async () => {
    throw new LifeboatError('EXEC_FAILED', 'pg_dumpall: error: server closed the connection');
  });
  await expect(failed).rejects.toMatchObject({ code: 'EXEC_FAILED' });
});

test('a dump of the roles without progress is ended', async () => {
  const stalled = dump(
    (_, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  );
  await expect(stalled).rejects.toMatchObject({
    code: 'PG_STALLED',
    message: expect.stringContaining('the dump of the roles in shop-db-1'),
  });
});
