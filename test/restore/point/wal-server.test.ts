import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, test, vi } from 'vitest';
import { WalServer } from '../../../src/restore/point/wal-server.ts';
import { readWalLogs } from '../../../src/store/wal/read-log.ts';
import { WAIT } from '../../harness/wait.ts';
import { nameOf, WalBench } from '../../store/wal/bench.ts';

test('a segment that was being received and is complete by now is served, although its parts are gone', async () => {
  const bench = new WalBench();
  await bench.store(1, 2);
  await bench.storeOpen(3, 4096);
  const [log] = await readWalLogs(bench.repository, 'db.postgres');
  if (!log) throw new Error('no WAL is stored');
  // The receiver replaces the parts by the segment.
  await bench.store(3, 3);
  const root = await mkdtemp(path.join(tmpdir(), 'wal-'));
  const exchange = { files: path.join(root, 'wal'), wanted: path.join(root, 'wanted') };
  const server = new WalServer(bench.repository, log, exchange);
  await server.open();
  const over = new AbortController();
  const serving = server.serve(over.signal);
  const failed = serving.then(() => undefined);
  try {
    await writeFile(path.join(exchange.wanted, nameOf(3)), '');
    const served = vi.waitFor(() => readFile(path.join(exchange.files, nameOf(3)), 'utf8'), WAIT);
    expect(await Promise.race([served, failed])).toBe(nameOf(3));
  } finally {
    over.abort();
    await serving.catch(() => undefined);
    await rm(root, { recursive: true });
  }
});
