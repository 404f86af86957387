import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
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

/** The end of a file of pg_dumpall. */
const CLOSING = '--\n-- PostgreSQL database cluster dump complete\n--\n\n';

/** Writes a file to the path that a pg_dumpall command names. */
function write(argv: readonly string[], text: string): string {
  const file = argv.find((argument) => argument.startsWith('--file='))?.slice('--file='.length) as string;
  writeFileSync(file, text);
  return '';
}

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
    if (asked.length > 1) return write(argv, CLOSING);
    throw new LifeboatError('EXEC_FAILED', 'pg_dumpall: error: permission denied for table pg_authid');
  });
  expect(asked).toEqual([true, false]);
  expect(warnings).toEqual([expect.stringContaining('roles are stored without their passwords')]);
  expect(await dump(async (argv) => write(argv, CLOSING))).toEqual([]);
});

/** A server whose list of roles changes with each query, up to the last one. Notes each dump, which is complete. */
function server(...lists: string[][]) {
  const dumps: string[][] = [];
  const tools = {
    container: 'shop-db-1',
    connection: { user: 'app', port: 5432, application: 'lifeboat' },
    control: async () => ({
      one: () => Promise.reject(new LifeboatError('PG_QUERY', 'a query on shop-db-1 failed')),
      all: async () => ((lists.length > 1 ? lists.shift() : lists[0]) ?? []).map((name) => ({ name })),
    }),
    run: async (argv: string[]) => write(argv, `-- dump ${dumps.push(argv)}\n${CLOSING}`),
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
  const first = await dumpKnownGlobals(options);
  const databases = [database('app', { owners: ['app'], grantees: ['reader', 'pg_monitor'] })];
  expect((await dumpMissingRoles(options, databases, first)).warnings).toEqual([]);
  expect(dumps).toHaveLength(1);
});

test('a role that was created during or after the dump of the globals causes a second dump', async () => {
  for (const lists of [
    [['app'], ['app'], ['app', 'late']],
    [['app'], ['app', 'late']],
  ]) {
    const { dumps, options } = server(...lists);
    const first = await dumpKnownGlobals(options);
    expect((await dumpMissingRoles(options, [database('app', { owners: ['late'] })], first)).warnings).toEqual([]);
    expect(dumps).toHaveLength(2);
  }
});

test('a warning names a role that was dropped before the dump of the globals, and the statement that a restore needs', async () => {
  const { options } = server(['app']);
  const first = await dumpKnownGlobals(options);
  expect((await dumpMissingRoles(options, [database('app', { owners: ['old one'] })], first)).warnings).toEqual([
    'role old one was dropped during the backup, and shop still names it: a restore to a server without it needs CREATE ROLE "old one" first',
  ]);
});

const stored = () => readFileSync(path.join(directory, 'globals.sql'), 'utf8');

/** A second dump of the globals that leaves an incomplete file. */
const INCOMPLETE: [string, string, (argv: readonly string[]) => string][] = [
  [
    'fails midway',
    'EXEC_FAILED',
    (argv) => {
      write(argv, 'CREATE ROLE app;\nCREATE R');
      throw new LifeboatError('EXEC_FAILED', 'pg_dumpall: error: server closed the connection');
    },
  ],
  [
    'fails without passwords too',
    'EXEC_FAILED',
    (argv) => {
      write(argv, '');
      const table = argv.includes('--no-role-passwords') ? 'pg_roles' : 'pg_authid';
      throw new LifeboatError('EXEC_FAILED', `pg_dumpall: error: permission denied for table ${table}`);
    },
  ],
  ['succeeds without its closing comment', 'PG_DUMP_INCOMPLETE', (argv) => write(argv, 'CREATE ROLE app;\nCREATE R')],
  [
    'has the closing comment only inside',
    'PG_DUMP_INCOMPLETE',
    (argv) => write(argv, `${CLOSING}${CLOSING}CREATE ROLE app;\n`),
  ],
  ['writes no file', 'PG_DUMP_INCOMPLETE', () => ''],
  [
    'writes a link to a complete file',
    'PG_DUMP_INCOMPLETE',
    (argv) => {
      const file = argv.find((argument) => argument.startsWith('--file='))?.slice('--file='.length) as string;
      symlinkSync(path.join(directory, 'globals.sql'), file);
      return '';
    },
  ],
];

test.each(INCOMPLETE)('the first dump of the globals stays if the second one %s', async (_, code, run) => {
  const { options } = server(['app'], ['app'], ['app', 'late']);
  const first = await dumpKnownGlobals(options);
  const second = {
    ...options,
    tools: { ...options.tools, run: async (argv: string[]) => run(argv) } as unknown as Tools,
  };
  await expect(dumpMissingRoles(second, [database('late')], first)).rejects.toMatchObject({ code });
  expect(stored()).toBe(`-- dump 1\n${CLOSING}`);
  expect(readdirSync(directory)).toEqual(['globals.sql']);
});

test('a complete second dump of the globals replaces the first one', async () => {
  const { options } = server(['app'], ['app'], ['app', 'late']);
  const first = await dumpKnownGlobals(options);
  await dumpMissingRoles(options, [database('late')], first);
  expect(stored()).toBe(`-- dump 2\n${CLOSING}`);
  expect(readdirSync(directory)).toEqual(['globals.sql']);
});

test.each([
  ['is empty', ''],
  ['ends midway', 'CREATE ROLE app;\nCREATE R'],
])('a first dump of the globals that %s is not stored', async (_, text) => {
  await expect(dump(async (argv) => write(argv, text))).rejects.toMatchObject({ code: 'PG_DUMP_INCOMPLETE' });
  expect(readdirSync(directory)).toEqual([]);
});

test('a dump of another vendor is complete too', async () => {
  const text = '--\n-- EnterpriseDB database cluster dump complete\n--\n\n';
  expect(await dump(async (argv) => write(argv, text))).toEqual([]);
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
