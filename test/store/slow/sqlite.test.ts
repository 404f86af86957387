import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Bench, createBench } from '../helpers.ts';

let bench: Bench;
const writers: ChildProcess[] = [];
beforeEach(() => {
  bench = createBench();
});
afterEach(async () => {
  for (const writer of writers.splice(0)) await kill(writer);
  bench.remove();
});

const ACCOUNTS = 4000;

/** An application that writes all the time; resolves once it does. */
async function startWriter(name: string, mode: string, ...pragmas: string[]): Promise<ChildProcess> {
  const program = join(import.meta.dirname, '../../harness/sqlite-writer.mjs');
  const args = ['--disable-warning=ExperimentalWarning', program, join(bench.tree, name), mode, `${ACCOUNTS}`];
  const writer = spawn(process.execPath, [...args, ...pragmas], { stdio: ['ignore', 'pipe', 'inherit'] });
  writers.push(writer);
  await once(writer.stdout as NodeJS.ReadableStream, 'data');
  return writer;
}

async function kill(writer: ChildProcess): Promise<void> {
  if (writer.exitCode !== null || writer.signalCode !== null) return;
  const ended = once(writer, 'exit');
  writer.kill('SIGKILL');
  await ended;
}

const storing = () => ({ spool: bench.spool });

/** What a restored database holds, as the application would find it. */
function lookInto(file: string) {
  const database = new DatabaseSync(file);
  try {
    const integrity = database.prepare('PRAGMA integrity_check').all().map((row) => row.integrity_check);
    const totals = database.prepare('SELECT count(*) AS accounts, sum(money) AS total FROM account').get();
    return { integrity, ...totals };
  } finally {
    database.close();
  }
}

const SOUND = { integrity: ['ok'], accounts: ACCOUNTS, total: ACCOUNTS * 1000 };

describe('an SQLite database that is written to all the time', () => {
  test.each([
    ['with a log', 'wal'],
    ['with a log that begins again all the time', 'wal', 'wal_autocheckpoint=20'],
    ['with a journal that is deleted', 'delete'],
    ['with a journal that is emptied', 'truncate'],
    ['with a journal that stays', 'persist'],
  ])('is stored as it was at one moment, %s', async (_, mode, ...pragmas) => {
    await startWriter('app.data', mode, ...pragmas);
    for (let round = 0; round < 3; round++) {
      const stored = await bench.store(storing());
      expect(stored).toMatchObject({ databases: 1, torn: [], damaged: [], noted: [], changedCount: 0, files: 1 });
      const { target } = await bench.extract(stored);
      expect(lookInto(join(target, 'app.data'))).toEqual(SOUND);
    }
  });
});
