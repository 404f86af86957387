import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { WalServer } from '../../../src/restore/point/wal-server.ts';
import { readWalLogs, type WalLog } from '../../../src/store/wal/read-log.ts';
import { WAIT } from '../../harness/wait.ts';
import { nameOf, WalBench } from '../../store/wal/bench.ts';

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'wal-'));
});
afterEach(() => rm(root, { recursive: true }));

/** Asks for a file as a recovering server does. Returns its content. */
async function ask(bench: WalBench, log: WalLog, name: string): Promise<string> {
  const exchange = { files: path.join(root, 'wal'), wanted: path.join(root, 'wanted') };
  const server = new WalServer(bench.repository, log, exchange);
  await server.open();
  const over = new AbortController();
  const serving = server.serve(over.signal);
  const failed = serving.then(() => '');
  try {
    await writeFile(path.join(exchange.wanted, name), '');
    const served = vi.waitFor(() => readFile(path.join(exchange.files, name), 'utf8'), WAIT);
    served.catch(() => undefined);
    return await Promise.race([served, failed]);
  } finally {
    over.abort();
    await serving.catch(() => undefined);
  }
}

/** Returns the newest log, while segment 3 is received. */
async function whileReceived(bench: WalBench): Promise<WalLog> {
  await bench.storeOpen(3, 4096);
  const log = (await readWalLogs(bench.repository, 'db.postgres')).at(-1);
  if (!log) throw new Error('no WAL is stored');
  return log;
}

test('a segment that was being received and is complete by now is served, although its parts are gone', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  const log = await whileReceived(bench);
  // The receiver replaces the parts by the segment.
  await bench.store(3, 3);
  expect(await ask(bench, log, nameOf(3))).toBe(nameOf(3));
});

describe('a server that went back to older data', () => {
  const back = { at: '2026-11-20T04:00:00.000Z', timeline: 1, to: '0/200000', why: 'it went back' };

  test('recovers with the WAL of one history, also if it is read again', async () => {
    const bench = new WalBench();
    await bench.store(1, 3, { content: (number) => Buffer.from(`old ${number}`) });
    bench.at = back.at;
    await (await bench.open()).beginAnew(back);
    await bench.storeAs('new', 2, 2);
    const log = await whileReceived(bench);
    await bench.storeAs('new', 3, 3);
    expect(await ask(bench, log, nameOf(3))).toBe(`new ${nameOf(3)}`);
  });

  test('does not go on with the WAL of another history if its own is gone', async () => {
    const bench = new WalBench();
    await bench.store(1, 2);
    const log = await whileReceived(bench);
    bench.at = back.at;
    await (await bench.open()).beginAnew(back);
    await bench.storeAs('new', 3, 3);
    for (const key of bench.objects.keys()) if (key.includes(`/${nameOf(3)}.`)) bench.objects.delete(key);
    await expect(ask(bench, log, nameOf(3))).rejects.toMatchObject({ code: 'OBJECT_MISSING' });
  });
});
