import fs, { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { SqliteCopies } from '../../../../src/store/sqlite/sqlite-copies.ts';
import * as sqliteCopy from '../../../../src/store/sqlite/sqlite-copy.ts';
import { SqliteProcess } from '../../../../src/store/sqlite/sqlite-process.ts';

const NFS = 0x6969;
let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'lifeboat-coarse-'));
  mkdirSync(join(root, 'spool'));
  vi.spyOn(fs, 'statfsSync').mockReturnValue({ type: NFS } as unknown as fs.StatsFs);
  syncBuiltinESMExports();
});
afterEach(() => {
  vi.restoreAllMocks();
  syncBuiltinESMExports();
  rmSync(root, { recursive: true, force: true });
});

function makeDatabase(): { database: DatabaseSync; file: Buffer } {
  const file = join(root, 'app.db');
  const database = new DatabaseSync(file);
  database.exec('PRAGMA journal_mode = DELETE; CREATE TABLE t (a); INSERT INTO t VALUES (1)');
  return { database, file: Buffer.from(file) };
}

test('a quiet database on a server is copied at the first attempt, once its times can show a change', async () => {
  const { database, file } = makeDatabase();
  database.close();
  const copying = vi.spyOn(sqliteCopy, 'copyDatabase');
  const copies = new SqliteCopies(join(root, 'spool'), () => undefined);
  try {
    expect(await copies.copy(file)).toMatchObject({ outcome: 'copied', damage: [] });
    expect(copying).toHaveBeenCalledTimes(1);
  } finally {
    await copies.close();
  }
});

test('one that is written to all the time is waited for once at most', async () => {
  const { database, file } = makeDatabase();
  const writing = setInterval(() => database.exec('INSERT INTO t VALUES (2)'), 10);
  // Without locks, nothing but the times shows a change.
  const { ask } = SqliteProcess.prototype;
  vi.spyOn(SqliteProcess.prototype, 'ask').mockImplementation(async function (this: SqliteProcess, request, patience) {
    return request.kind === 'hold' ? { kind: 'failed', message: 'no locks' } : ask.call(this, request, patience);
  });
  const copies = new SqliteCopies(join(root, 'spool'), () => undefined);
  try {
    const started = performance.now();
    const copied = await copies.copy(file);
    expect(copied).toMatchObject({ outcome: 'torn' });
    expect(performance.now() - started).toBeLessThan(7000);
  } finally {
    clearInterval(writing);
    database.close();
    await copies.close();
  }
});
