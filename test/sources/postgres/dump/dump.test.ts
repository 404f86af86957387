import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { silentLog } from '../../../../src/base/log.ts';
import { checkDump, removeDump } from '../../../../src/sources/postgres/dump/dump.ts';
import { lacksZstd } from '../../../../src/sources/postgres/dump/dump-errors.ts';
import { type DumpServerOptions, dumpServer } from '../../../../src/sources/postgres/dump/dump-server.ts';
import { dumpedSequences } from '../../../../src/sources/postgres/dump/dumped-sequences.ts';
import type { DatabaseFacts, TableFacts } from '../../../../src/sources/postgres/facts/facts.ts';
import { rowsOf } from '../../../../src/sources/postgres/facts/summary.ts';

const table = (name: string, over: Partial<TableFacts> = {}): TableFacts => {
  return { schema: 'public', name, owner: 'app', rows: 10, exact: true, bytes: 8192, ...over };
};
const database = (...tables: TableFacts[]) => ({ name: 'shop', encoding: 'UTF8', tables }) as unknown as DatabaseFacts;
const list = (...entries: string[]) =>
  [';     TOC Entries: 9', ...entries.map((entry, i) => `${i + 1}; 0 0 ${entry}`)].join('\n');
const ORDERS = 'TABLE DATA public orders app';

test('rows left out on request are neither required nor counted', () => {
  const facts = database(table('orders'), table('audit'), table('spatial', { extension: 'postgis' }));
  checkDump(facts, list(ORDERS), list('TABLE public audit app', 'INDEX public audit_pkey app'), ['1.dat.zst']);
  expect(facts.tables.map(({ data }) => data)).toEqual([undefined, false, false]);
  expect(rowsOf([facts])).toBe(10);
});

test('sequences whose values are left out with the rows of tables are not recorded', () => {
  const sequence = (name: string) => ({ schema: 'public', name, value: '4711' });
  const moved = (name: string) => ({ ...sequence(name), after: '4712' });
  const contents = list(
    ORDERS,
    'SEQUENCE public audit_id_seq app',
    'SEQUENCE SET public orders_id_seq app',
    'SEQUENCE SET public odd name my role',
  );
  const names = ['orders_id_seq', 'audit_id_seq', 'odd\nname'];
  const found = dumpedSequences(database(), contents, {
    sequences: names.map(sequence),
    movedSequences: ['audit_id_seq', 'orders_id_seq'].map(moved),
  });
  expect(found).toEqual({
    sequences: ['orders_id_seq', 'odd\nname'].map(sequence),
    movedSequences: [moved('orders_id_seq')],
  });
});

test('a missing table is reported, whatever else was left out on request', () => {
  const facts = database(table('orders'), table('audit'), table('lost'));
  expect(() => checkDump(facts, list(ORDERS), list('TABLE public audit app'), ['1.dat'])).toThrow(
    expect.objectContaining({
      code: 'PG_DUMP_INCOMPLETE',
      message: 'the dump of shop is incomplete: it lacks 1 table, among them public.lost',
    }),
  );
  expect(() => checkDump(database(table('orders')), list(ORDERS), '', [])).toThrow('the files of 1 table are missing');
  expect(() => checkDump(database(), '', '', [])).toThrow('its table of contents is empty');
});

test('a pg_dump without zstd is distinguished from one that failed', () => {
  const said = 'pg_dump: error: invalid compression specification: this build does not support compression with ZSTD';
  const cause = new LifeboatError('EXEC_FAILED', `command "sh" ended with status 1: ${said}`);
  expect(lacksZstd(new LifeboatError('PG_DUMP_FAILED', 'pg_dump failed', { cause }))).toBe(true);
  expect(lacksZstd(new LifeboatError('PG_DUMP_FAILED', 'pg_dump failed', { cause: new Error('killed') }))).toBe(false);
});

const helperGone = () => Promise.reject(new LifeboatError('ENGINE_REFUSED', 'the container is not running'));

test('a killed helper is reported as the failure of the dump, not of the cleanup', async () => {
  const spool = mkdtempSync(path.join(tmpdir(), 'lifeboat-dump-'));
  const failure = new LifeboatError('PG_DUMP_FAILED', 'pg_dump of shop in db-1 failed');
  const options = {
    tools: {
      session: () => Promise.reject(failure),
      control: helperGone,
      remove: helperGone,
      activity: async () => '',
      log: silentLog,
    },
    server: { versionNumber: 170000 },
    source: { name: 'db.postgres', excludeTableData: [] },
    context: { spool, log: silentLog, signal: new AbortController().signal, progress: () => undefined },
    databases: [{ name: 'shop', size: 100e6 }],
    stallTimeoutMs: 1000,
  } as unknown as DumpServerOptions;
  try {
    await expect(dumpServer(options)).rejects.toBe(failure);
    await expect(removeDump(options.tools, spool, failure)).rejects.toBe(failure);
  } finally {
    rmSync(spool, { recursive: true });
  }
});
