import type { RequestListener } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, expect, test } from 'vitest';
import type { Destination } from '../../../../src/destinations/destination.ts';
import type { S3Limits } from '../../../../src/destinations/s3/retry.ts';
import { createS3Destination } from '../../../../src/destinations/s3/s3.ts';
import { startStubS3 } from '../../../harness/stub-s3.ts';

/** A server that responds with `x`, or is silent. */
class Server {
  requests = 0;
  silent: (url: string) => boolean = () => false;
  stop = () => {};

  async open(limits: Partial<S3Limits>, hurry?: AbortSignal): Promise<Destination> {
    const answer: RequestListener = ({ url = '' }, response) => {
      this.requests++;
      if (!this.silent(url)) response.setHeader('etag', '"x"').end('x');
    };
    const { location, credentials, stop } = await startStubS3(answer);
    this.stop = stop;
    const uploads = join(tmpdir(), `lifeboat-outage-${process.pid}`);
    return createS3Destination({ location, credentials, uploads, env: {}, limits, hurry });
  }
}

let server: Server;
afterEach(() => server.stop());

const LIMITS = { attempts: 50, baseDelayMs: 1, maxDelayMs: 1, silenceMs: 300, outageMs: 900, trialMs: 3_600_000 };

async function read(destination: Destination, key: string): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of await destination.get(key)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

test('an outage is waited for once, whatever the request, and not once per object', async () => {
  server = new Server();
  server.silent = () => true;
  const destination = await server.open(LIMITS);
  await expect(read(destination, 'first')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  const asked = server.requests;
  expect(asked).toBeLessThan(LIMITS.attempts);
  for (let i = 0; i < 20; i++) {
    await expect(read(destination, `object-${i}`)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    const body = Readable.from([Buffer.from('x')]);
    await expect(destination.put(`new-${i}`, body)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    await expect(destination.delete(`old-${i}`)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  }
  // An abandoned attempt may still arrive late.
  expect(server.requests).toBeLessThan(asked + 20);
});

test('a server that is down is tried occasionally, by one attempt, and used again once it responds', async () => {
  server = new Server();
  server.silent = () => true;
  const destination = await server.open({ ...LIMITS, silenceMs: 2000, outageMs: 6000, trialMs: 0 });
  await expect(read(destination, 'first')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  const asked = server.requests;
  await expect(read(destination, 'second')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  expect(server.requests).toBeLessThan(asked + 10);
  server.silent = () => false;
  expect(await read(destination, 'third')).toBe('x');
  server.silent = () => true;
  await expect(read(destination, 'fourth')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
});

test('one object without a response is no outage while others get responses', async () => {
  server = new Server();
  server.silent = (url) => url.includes('bad');
  const destination = await server.open({ ...LIMITS, outageMs: 10_000 });
  let done = false;
  const bad = read(destination, 'bad').finally(() => {
    done = true;
  });
  bad.catch(() => {});
  while (!done) {
    expect(await read(destination, 'good')).toBe('x');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await expect(bad).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  expect(await read(destination, 'good')).toBe('x');
});

test('a process that shuts down does not wait for a silent server', async () => {
  server = new Server();
  server.silent = () => true;
  const hurry = new AbortController();
  // The limit is an hour, except during shutdown.
  const hour = { silenceMs: 3_600_000, outageMs: 3_600_000, baseDelayMs: 3_600_000, maxDelayMs: 3_600_000 };
  const destination = await server.open({ ...LIMITS, ...hour, leftMs: 3000, trialMs: 0 }, hurry.signal);
  const reading = read(destination, 'first');
  setTimeout(() => hurry.abort(), 50);
  await expect(reading).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  await expect(read(destination, 'second')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  // Leases can still be released.
  server.silent = () => false;
  expect(await read(destination, 'third')).toBe('x');
});
