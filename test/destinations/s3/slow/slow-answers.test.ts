import { rmSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterAll, expect, test } from 'vitest';
import { createS3Destination } from '../../../../src/destinations/s3/s3.ts';
import { startStubS3 } from '../../../harness/stub-s3.ts';

const MIB = 1024 ** 2;
const PART = 16 * MIB;
const SILENCE_MS = 1000;
/** Bytes in the socket count as sent, and the server reads them at its own rate: 8 MiB get 2 s more. */
const SLOWEST = 4 * MIB;
const LIMIT_MS = SILENCE_MS + 2000;

const uploads = join(tmpdir(), `lifeboat-slow-${process.pid}`);
afterAll(() => rmSync(uploads, { recursive: true, force: true }));

/** Reads a body at `rate` bytes per millisecond, and nothing after `end` bytes. Resolves to the number of bytes. */
async function takeSlowly(request: IncomingMessage, rate: number, end = Number.POSITIVE_INFINITY): Promise<number> {
  const start = performance.now();
  let taken = 0;
  for await (const chunk of request) {
    taken += chunk.length;
    while (taken > end || taken / rate > performance.now() - start) {
      await new Promise((resolve) => setTimeout(resolve, 5));
      if (request.destroyed) return taken;
    }
  }
  return taken;
}

/** Stores a little more than one part at a server that reads parts at that rate, and returns the outcome. */
async function store(rate: number, end?: number) {
  let taken = 0;
  let slowest = 0;
  let stored = 0;
  const stub = await startStubS3(async (request, answer) => {
    const { method, url = '' } = request;
    const start = performance.now();
    const size = await takeSlowly(request, rate, end).catch(() => 0);
    if (method === 'HEAD') answer.writeHead(stored > 0 ? 200 : 404, { 'content-length': stored, etag: '"all"' }).end();
    else if (method === 'PUT') {
      taken += size;
      slowest = Math.max(slowest, performance.now() - start);
      answer.writeHead(200, { etag: '"part"' }).end();
    } else if (method === 'POST' && url.includes('uploads')) {
      answer.end('<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>');
    } else {
      if (method === 'POST') stored = taken;
      answer.end(method === 'POST' ? '<CompleteMultipartUploadResult/>' : '');
    }
  });
  const { location, credentials } = stub;
  const limits = { attempts: 2, baseDelayMs: 1, silenceMs: SILENCE_MS, slowest: SLOWEST };
  const destination = createS3Destination({
    ...{ location, credentials, limits, env: {} },
    uploads,
  });
  try {
    const body = Readable.from([Buffer.alloc(PART, 1), Buffer.alloc(1000, 2)]);
    const done = await destination.put('shop/large', body, { expectedSize: 9000 * PART }).catch((error) => error);
    return { done, taken, slowest };
  } finally {
    stub.stop();
  }
}

test('a part may take any time while the server keeps reading it', async () => {
  const { done, taken, slowest } = await store((4 * MIB) / 1000);
  expect(done).toMatchObject({ size: PART + 1000 });
  expect(taken).toBe(PART + 1000);
  expect(slowest).toBeGreaterThan(LIMIT_MS);
});

test('a server that stops reading a part is given up', async () => {
  const { done, taken } = await store(1000 * MIB, MIB);
  expect(done).toMatchObject({ code: 'DEST_UNREACHABLE' });
  expect(taken).toBeLessThan(PART);
});
