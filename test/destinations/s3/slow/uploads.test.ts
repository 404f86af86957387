import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { expect, test, vi } from 'vitest';
import { createS3Destination } from '../../../../src/destinations/s3/s3.ts';
import { startStubS3 } from '../../../harness/stub-s3.ts';

let disk: { code: string; errno: number } | undefined;
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const fsyncSync = (fd: number) => {
    if (disk) throw Object.assign(new Error(`${disk.code}: no`), disk);
    fs.fsyncSync(fd);
  };
  return { ...fs, fsyncSync };
});

test('a full spool is reported as such, not as a server that does not respond', async () => {
  const stub = await startStubS3((_, answer) => answer.writeHead(404).end());
  const uploads = mkdtempSync(path.join(tmpdir(), 'uploads-'));
  const { location, credentials } = stub;
  const limits = { attempts: 1 };
  const destination = createS3Destination({ location, credentials, uploads, env: {}, limits });
  const put = () => destination.put('shop/large', Readable.from([Buffer.alloc(8 * 1024 ** 2)]));
  try {
    // Node has no name for EDQUOT, an exceeded quota.
    const full = [
      { code: 'ENOSPC', errno: -28 },
      { code: 'Unknown system error -122', errno: -122 },
    ];
    for (disk of full) await expect(put()).rejects.toMatchObject({ code: 'SPOOL_FULL' });
    expect(readdirSync(uploads)).toEqual([]);
  } finally {
    disk = undefined;
    stub.stop();
    rmSync(uploads, { recursive: true });
  }
});
