import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { AbortMultipartUploadCommand, ListMultipartUploadsCommand, PutObjectCommand } from '@aws-sdk/client-s3';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { check } from '../../../src/check/check.ts';
import type { SweepingDestination } from '../../../src/destinations/destination.ts';
import { createS3Destination, type S3Options } from '../../../src/destinations/s3/s3.ts';
import { FORMAT, type Manifest } from '../../../src/store/objects/manifest.ts';
import { fetchDocument } from '../../../src/store/objects/objects.ts';
import { openRepository } from '../../../src/store/repository/open-repository.ts';
import { destinationContract, keys, read } from '../../contract/destination.ts';
import { type S3Fault, type S3Operation, type S3Proxy, type S3Seen, startS3Proxy } from '../../harness/s3-proxy.ts';
import { S3_KEY, type S3Server, startS3Server } from '../../harness/s3-server.ts';

const MIB = 1024 * 1024;
/**
 * Short waits between attempts: the tests are about which requests are retried, and how often. A busy server must not
 * count as silent.
 */
const QUICK = { attempts: 5, baseDelayMs: 5, maxDelayMs: 50, silenceMs: 30_000, slowest: 16 * MIB };
const SNAPSHOT = '20261120T030000Z-4f1c9a';
/** For a server that is silent on purpose. */
const SILENCE_MS = 1500;
/** The same, for large transfers, or a slow reader. */
const LONG_SILENCE_MS = 4000;

let server: S3Server;
let proxy: S3Proxy;
let bucket: string;
let scratch: string;
let prefixes = 0;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'lifeboat-s3-'));
  server = await startS3Server();
  proxy = await startS3Proxy({ server: server.endpoint });
  bucket = await server.bucket();
});
afterAll(async () => {
  await proxy?.close();
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});
beforeEach(() => {
  proxy.forget();
});

const newPrefix = () => `p${++prefixes}/`;

function destinationAt(prefix: string, options: Partial<S3Options> = {}): ReturnType<typeof createS3Destination> {
  return createS3Destination({
    location: { bucket, prefix, endpoint: server.endpoint, pathStyle: true },
    credentials: S3_KEY,
    uploads: join(scratch, `${prefix.slice(0, -1)}.uploads`),
    env: {},
    ...options,
  });
}

const throughProxy = (prefix: string, limits: Partial<typeof QUICK> = {}) =>
  destinationAt(prefix, {
    location: { bucket, prefix, endpoint: proxy.endpoint, pathStyle: true },
    limits: { ...QUICK, ...limits },
  });

destinationContract('s3', async () => ({ destination: destinationAt(newPrefix()), cleanUp: async () => undefined }));

/** Every third request meets the next of these faults. A request is made up to five times. */
const FAULTS: S3Fault[] = ['reset', 503, 'lost', 'short', 429, 'reset-body', 500, 'damage-request'];

destinationContract('s3 behind a network that fails', async () => {
  let next = 0;
  proxy.script(({ number, operation }) => {
    if (number % 3 !== 1) return undefined;
    const fault = FAULTS[next++ % FAULTS.length];
    // A request without a body cannot be damaged.
    return fault === 'damage-request' && operation !== 'PutObject' ? 'reset' : fault;
  });
  return { destination: throughProxy(newPrefix()), cleanUp: async () => undefined };
});

test('the server replaces an object only while it has the version that a listing returned', async () => {
  const destination = destinationAt(newPrefix());
  await destination.put('a/b', Readable.from([Buffer.from('x')]), { newKey: true });
  const version = async () => {
    let found = '';
    for await (const object of destination.list('a/')) found = object.version ?? '';
    return found;
  };
  const first = await version();
  expect(await destination.replace('a/b', Buffer.from('y'), first)).toBe(true);
  expect(await destination.replace('a/b', Buffer.from('z'), first)).toBe(false);
  expect(await destination.replace('a/none', Buffer.from('z'), first)).toBe(false);
  expect(String(await read(destination, 'a/b'))).toBe('y');
  expect(await keys(destination, 'a/')).toEqual(['a/b']);
});

const pieces = (content: Buffer) =>
  Readable.from(
    (function* () {
      for (let at = 0; at < content.length; at += 300_000) yield content.subarray(at, at + 300_000);
    })(),
  );

/** Applies the fault to the first `times` requests of that operation. */
const onFirst =
  (operation: S3Operation, fault: S3Fault, times = 1) =>
  (seen: S3Seen): S3Fault | undefined =>
    seen.operation === operation && seen.ofOperation < times ? fault : undefined;

describe('an object that is stored while the network fails', () => {
  const small = randomBytes(100_000);
  const large = randomBytes(17 * MIB);
  const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');

  test.each<[S3Operation, S3Fault, number?]>([
    ['HeadObject', 503],
    ['PutObject', 'reset'],
    ['PutObject', 'reset-body'],
    ['PutObject', 429],
    ['PutObject', 'hang', SILENCE_MS],
    ['PutObject', 'lost'],
    ['PutObject', 'damage-request'],
    ['CreateMultipartUpload', 'lost'],
    ['CreateMultipartUpload', 'short'],
    ['UploadPart', 'reset-body'],
    ['UploadPart', 'damage-request'],
    ['UploadPart', 'lost'],
    ['UploadPart', 'hang', LONG_SILENCE_MS],
    ['UploadPart', 500],
    ['CompleteMultipartUpload', 'reset'],
    ['CompleteMultipartUpload', 'lost'],
    ['CompleteMultipartUpload', 'short'],
    ['CompleteMultipartUpload', 503],
  ])('%s, %s: is stored whole', async (operation, fault, silenceMs) => {
    const prefix = newPrefix();
    const destination = throughProxy(prefix, silenceMs === undefined ? {} : { silenceMs });
    proxy.script(onFirst(operation, fault, 2));
    const content = /Upload/.test(operation) ? large : small;
    const stored = await destination.put('shop/packs/object', pieces(content));
    expect(stored).toEqual({ size: content.length, sha256: sha256(content) });
    expect(proxy.faults).toBeGreaterThan(0);
    expect(sha256(await read(destinationAt(prefix), 'shop/packs/object'))).toBe(stored.sha256);
    // If the response to a begin is lost, an upload with an unknown id remains.
    await destination.sweepTemporary({ prefix: 'shop/' });
    expect(await server.uploads(bucket)).toEqual([]);
  });

  test.each<[S3Operation, S3Fault, string]>([
    ['HeadObject', 'reset', 'DEST_UNREACHABLE'],
    ['PutObject', 'reset', 'DEST_UNREACHABLE'],
    ['PutObject', 500, 'DEST_UNREACHABLE'],
    ['PutObject', 'damage-request', 'DEST_DAMAGED'],
    ['PutObject', 403, 'DEST_UNWRITABLE'],
    ['PutObject', 507, 'DEST_FULL'],
    ['CreateMultipartUpload', 503, 'DEST_UNREACHABLE'],
    ['UploadPart', 'reset-body', 'DEST_UNREACHABLE'],
    ['UploadPart', 403, 'DEST_UNWRITABLE'],
    ['CompleteMultipartUpload', 'reset', 'DEST_UNREACHABLE'],
  ])('%s, always %s: fails with %s after a bounded number of attempts, and leaves nothing', async (...row) => {
    const [operation, fault, code] = row;
    const prefix = newPrefix();
    const destination = throughProxy(prefix);
    proxy.script(onFirst(operation, fault, Number.POSITIVE_INFINITY));
    const body = pieces(/Upload/.test(operation) ? large : small);
    await expect(destination.put('shop/packs/object', body)).rejects.toMatchObject({ code });
    expect(body.destroyed).toBe(true);
    // Several parts are sent in parallel.
    expect(proxy.seen.filter((one) => one.operation === operation).length).toBeLessThanOrEqual(4 * QUICK.attempts);
    expect(await server.keys(bucket, prefix)).toEqual([]);
    expect(await server.uploads(bucket)).toEqual([]);
  });

  test('several at a time, some of them aborted: each of the others is stored whole', async () => {
    const prefix = newPrefix();
    // Parts take turns, so one may meet several faults in a row by chance.
    const destination = throughProxy(prefix, { attempts: 12 });
    proxy.script(({ operation, ofOperation }) =>
      operation === 'UploadPart' && ofOperation % 3 === 0 ? 'reset-body' : undefined,
    );
    const contents = Array.from({ length: 4 }, () => randomBytes(17 * MIB));
    const failing = Readable.from(
      (async function* () {
        yield randomBytes(12 * MIB);
        throw new Error('boom');
      })(),
    );
    const stop = new AbortController();
    const stopped = Readable.from(
      (async function* () {
        yield randomBytes(12 * MIB);
        stop.abort(new Error('enough'));
        await sleep(60_000, undefined, { ref: false });
      })(),
    );
    const [boom, enough, ...others] = await Promise.allSettled([
      destination.put('shop/packs/failing', failing),
      destination.put('shop/packs/stopped', stopped, { signal: stop.signal }),
      ...contents.map((content, i) => destination.put(`shop/packs/${i}`, pieces(content))),
    ]);
    expect([boom, enough]).toMatchObject([{ reason: { message: 'boom' } }, { reason: { message: 'enough' } }]);
    expect(others.map((other) => other.status === 'fulfilled' && other.value)).toEqual(
      contents.map((content) => ({ size: content.length, sha256: sha256(content) })),
    );
    for (const [i, content] of contents.entries())
      expect(sha256(await read(destinationAt(prefix), `shop/packs/${i}`))).toBe(sha256(content));
    expect(proxy.faults).toBeGreaterThan(3);
    expect(await server.keys(bucket, prefix)).toHaveLength(4);
    await destination.sweepTemporary({ prefix: 'shop/' });
    expect(await server.uploads(bucket)).toEqual([]);
  });

  test('one that is shorter on the server than the bytes sent is DEST_DAMAGED, and is removed', async () => {
    const prefix = newPrefix();
    proxy.script(({ operation, ofOperation }) => (operation === 'HeadObject' && ofOperation > 0 ? 'lie' : undefined));
    await expect(throughProxy(prefix).put('shop/object', pieces(small))).rejects.toMatchObject({
      code: 'DEST_DAMAGED',
    });
    expect(await server.keys(bucket, prefix)).toEqual([]);
  });

  test('a server without support for conditions gets none, and still nothing is replaced', async () => {
    const destination = throughProxy(newPrefix());
    proxy.script(({ operation, headers }) =>
      operation === 'PutObject' && headers['if-none-match'] !== undefined ? 501 : undefined,
    );
    await destination.put('shop/object', pieces(small));
    await expect(destination.put('shop/object', pieces(large))).rejects.toMatchObject({ code: 'DEST_EXISTS' });
    expect(sha256(await read(destination, 'shop/object'))).toBe(sha256(small));
  });

  test('an interrupted upload resumes with the missing parts if the content is known', async () => {
    const prefix = newPrefix();
    const content = randomBytes(23 * MIB);
    const whole = { size: content.length, sha256: createHash('sha256').update(content).digest('hex') };
    const destination = throughProxy(prefix);
    const send = (of = content) =>
      destination.put('shop/packs/object', Readable.from([of]), { expectedSize: content.length, whole });
    proxy.script(({ operation, ofOperation }) =>
      operation === 'UploadPart' && ofOperation >= 2 ? 'reset-body' : undefined,
    );
    await expect(send()).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    const key = `${prefix}shop/packs/object`;
    const there = async () => (await server.uploads(bucket)).filter((one) => one === key);
    expect(await there()).toEqual([key]);
    // It is kept for the next put, and no longer.
    await destination.sweepTemporary();
    expect(await there()).toEqual([key]);
    proxy.forget();
    expect(await send()).toEqual(whole);
    const sent = (name: S3Operation) => proxy.seen.filter(({ operation }) => operation === name).length;
    expect({ begun: sent('CreateMultipartUpload'), parts: sent('UploadPart') }).toEqual({ begun: 0, parts: 3 });
    expect(await there()).toEqual([]);
    expect((await read(destinationAt(prefix), 'shop/packs/object')).equals(content)).toBe(true);
  });

  test('an interrupted upload is not used for other content, nor if the server has lost it', async () => {
    const prefix = newPrefix();
    const destination = throughProxy(prefix);
    const send = (content: Buffer) => {
      const whole = { size: content.length, sha256: createHash('sha256').update(content).digest('hex') };
      return destination.put('shop/packs/object', Readable.from([content]), { expectedSize: content.length, whole });
    };
    const cut = () =>
      proxy.script(({ operation, ofOperation }) =>
        operation === 'UploadPart' && ofOperation >= 2 ? 'reset-body' : undefined,
      );
    const [first, second] = [randomBytes(12 * MIB), randomBytes(12 * MIB)];
    cut();
    await expect(send(first)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    proxy.forget();
    await send(second);
    expect((await read(destinationAt(prefix), 'shop/packs/object')).equals(second)).toBe(true);
    await destination.delete('shop/packs/object');
    // The first upload would be resumed, but it is gone.
    const { Uploads = [] } = await server.client.send(
      new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix }),
    );
    for (const { Key, UploadId } of Uploads) {
      await server.client.send(new AbortMultipartUploadCommand({ Bucket: bucket, Key, UploadId }));
    }
    await send(first);
    expect((await read(destinationAt(prefix), 'shop/packs/object')).equals(first)).toBe(true);
  });

  test('an object that somebody else stores first is not replaced, small or large', async () => {
    for (const content of [small, large]) {
      const prefix = newPrefix();
      const theirs = randomBytes(1000);
      const body = pieces(content);
      // Between the check and the end of the upload.
      const slow = Readable.from(
        (async function* () {
          yield* body;
          await server.client.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}shop/object`, Body: theirs }));
        })(),
      );
      await expect(destinationAt(prefix).put('shop/object', slow)).rejects.toMatchObject({ code: 'DEST_EXISTS' });
      expect((await read(destinationAt(prefix), 'shop/object')).equals(theirs)).toBe(true);
      expect(await server.uploads(bucket)).toEqual([]);
    }
  });
});

describe('an object that is read while the network fails', () => {
  const content = randomBytes(3 * MIB);
  const prefix = newPrefix();
  let destination: SweepingDestination;
  beforeAll(async () => {
    await destinationAt(prefix).put('shop/object', pieces(content));
    destination = throughProxy(prefix);
  });

  test.each<S3Fault>(['reset', 503, 'short', 'lost', 'hang'])('%s: comes whole', async (fault) => {
    proxy.script(onFirst('GetObject', fault, 3));
    const asked = fault === 'hang' ? throughProxy(prefix, { silenceMs: SILENCE_MS }) : destination;
    expect((await read(asked, 'shop/object')).equals(content)).toBe(true);
    const part = await read(asked, 'shop/object', { start: 1000, end: 2_000_000 });
    expect(part.equals(content.subarray(1000, 2_000_000))).toBe(true);
  });

  test('resumes where it stopped, with the same object', async () => {
    proxy.script(onFirst('GetObject', 'short'));
    await read(destination, 'shop/object');
    const [, second] = proxy.seen.filter(({ operation }) => operation === 'GetObject');
    expect(second?.headers.range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(second?.headers['if-match']).toMatch(/^"/);
  });

  test('allows a slow reader', async () => {
    const stream = await throughProxy(prefix, { silenceMs: LONG_SILENCE_MS }).get('shop/object');
    const chunks: Buffer[] = [];
    for await (const chunk of stream) {
      chunks.push(chunk);
      if (chunks.length === 1) await sleep(LONG_SILENCE_MS + 500);
    }
    expect(Buffer.concat(chunks).equals(content)).toBe(true);
    expect(proxy.seen.filter(({ operation }) => operation === 'GetObject')).toHaveLength(1);
  });

  test('is DEST_UNREACHABLE if the connection is cut repeatedly without progress', async () => {
    proxy.script(({ operation, ofOperation }) =>
      operation !== 'GetObject' ? undefined : ofOperation === 0 ? 'short' : 'reset',
    );
    await expect(read(destination, 'shop/object')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  });

  test('is OBJECT_DAMAGED if it was replaced meanwhile', async () => {
    const own = newPrefix();
    await destinationAt(own).put('shop/object', pieces(content));
    proxy.script(onFirst('GetObject', 'short'));
    const stream = await throughProxy(own).get('shop/object');
    await server.client.send(
      new PutObjectCommand({ Bucket: bucket, Key: `${own}shop/object`, Body: randomBytes(3 * MIB) }),
    );
    await expect(stream.toArray()).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  });

  test('ends its request when it is destroyed, and rejects with the reason when it is aborted', async () => {
    const stream = await destination.get('shop/object');
    stream.destroy();
    const controller = new AbortController();
    const other = await destination.get('shop/object', { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(other.toArray()).rejects.toThrow('enough');
  });
});

test('a server that goes silent is tried again, whatever the request', async () => {
  const destination = throughProxy(newPrefix(), { silenceMs: SILENCE_MS });
  await destination.put('shop/object', pieces(Buffer.from('x')));
  for (const operation of ['ListObjectsV2', 'DeleteObject', 'HeadObject'] as const) {
    proxy.forget();
    proxy.script(onFirst(operation, 'hang'));
    if (operation === 'ListObjectsV2') expect(await keys(destination, '')).toEqual(['shop/object']);
    else if (operation === 'DeleteObject') await destination.delete('shop/object');
    else await destination.put('shop/object', pieces(Buffer.from('y')));
    expect(proxy.faults).toBe(1);
  }
});

test('bytes damaged on the way back are detected by the hash in the manifest', async () => {
  const destination = throughProxy(newPrefix());
  const stored = await destination.put('shop/object', pieces(randomBytes(1000)));
  const ref = { key: 'shop/object', ...stored };
  proxy.script(onFirst('GetObject', 'damage-answer'));
  await expect(fetchDocument(destination, ref, { keys: {} })).rejects.toMatchObject({ code: 'OBJECT_DAMAGED' });
  expect(await fetchDocument(destination, ref, { keys: {} })).toHaveLength(1000);
});

describe('leftovers', () => {
  /** Fails as a killed process does: the upload remains. */
  async function killedUpload(destination: SweepingDestination, key: string): Promise<void> {
    proxy.script(({ operation }) => {
      if (operation === 'AbortMultipartUpload') return 403;
      return operation === 'UploadPart' ? 403 : undefined;
    });
    await expect(destination.put(key, pieces(randomBytes(9 * MIB)))).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
    proxy.script(() => undefined);
  }

  test('uploads of a dead run are aborted, those of others stay', async () => {
    const prefix = newPrefix();
    const destination = throughProxy(prefix);
    await killedUpload(destination, 'shop/packs/dead');
    await killedUpload(destination, 'blog/packs/dead');
    const foreign = [`${prefix}shop/packs/foreign`, `${prefix}other`, 'elsewhere'];
    for (const key of foreign) await server.foreignUpload(bucket, key);
    const dead = `${prefix}blog/packs/dead`;
    expect(await server.uploads(bucket)).toEqual([dead, `${prefix}shop/packs/dead`, ...foreign].sort());
    expect(await destination.sweepTemporary({ prefix: 'shop/' })).toBe(1);
    expect(await server.uploads(bucket)).toEqual([dead, ...foreign].sort());
    proxy.forget();
    expect(await destination.sweepTemporary({ prefix: 'shop/' })).toBe(0);
    expect(proxy.seen).toEqual([]);
    // Another process, as after a restart, also knows about it.
    expect(await throughProxy(prefix).sweepTemporary()).toBe(1);
    expect(await server.uploads(bucket)).toEqual(foreign.sort());
  });

  test('an upload that has ended, successfully or not, is forgotten', async () => {
    const prefix = newPrefix();
    const uploads = join(scratch, 'ended');
    const destination = destinationAt(prefix, { uploads });
    await destination.put('shop/packs/good', pieces(randomBytes(9 * MIB)));
    const failing = Readable.from(
      (async function* () {
        yield randomBytes(9 * MIB);
        throw new Error('boom');
      })(),
    );
    await expect(destination.put('shop/packs/bad', failing)).rejects.toThrow('boom');
    expect(readdirSync(uploads)).toEqual([]);
  });

  test('objects outside the prefix, and other things, are not listed', async () => {
    const prefix = newPrefix();
    const put = (Key: string) => server.client.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'x' }));
    for (const key of [`${prefix}shop/`, `${prefix}shop/.hidden`, `${prefix.slice(0, -1)}-other/x`]) await put(key);
    await put(`${prefix}shop/object`);
    expect(await keys(destinationAt(prefix), '')).toEqual(['shop/object']);
  });

  test('all objects are listed if they exceed one page', async () => {
    const prefix = newPrefix();
    const all = Array.from({ length: 1100 }, (_, i) => `shop/${String(i).padStart(4, '0')}`);
    const put = async (key: string) =>
      server.client.send(new PutObjectCommand({ Bucket: bucket, Key: prefix + key, Body: 'x' }));
    for (let at = 0; at < all.length; at += 50) await Promise.all(all.slice(at, at + 50).map(put));
    expect(await keys(destinationAt(prefix), 'shop/')).toEqual(all);
  });
});

describe('a destination that cannot be used', () => {
  const put = (destination: SweepingDestination) => destination.put('shop/object', Readable.from(['x']));

  test('a wrong key is reported as such', async () => {
    const prefix = newPrefix();
    const wrong = { ...S3_KEY, secretAccessKey: 'canary-wrong' };
    for (const credentials of [wrong, { accessKeyId: 'nobody', secretAccessKey: 'canary-wrong' }]) {
      const destination = destinationAt(prefix, { credentials });
      await expect(put(destination)).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
      await expect(keys(destination, '')).rejects.toMatchObject({
        code: 'DEST_UNWRITABLE',
        message: `s3://${bucket}/${prefix.slice(0, -1)} refused the key`,
      });
    }
  });

  test('a bucket that does not exist', async () => {
    const location = { bucket: 'there-is-none', prefix: '', endpoint: server.endpoint, pathStyle: true };
    const destination = destinationAt(newPrefix(), { location });
    const expected = { code: 'DEST_UNWRITABLE', message: 'the bucket of s3://there-is-none does not exist' };
    await expect(put(destination)).rejects.toMatchObject(expected);
    await expect(destination.get('shop/object')).rejects.toMatchObject(expected);
    await expect(keys(destination, '')).rejects.toMatchObject(expected);
    await expect(destination.delete('shop/object')).rejects.toMatchObject(expected);
  });

  test('a server that does not exist, with a limited number of attempts', async () => {
    const location = { bucket, prefix: '', endpoint: 'http://127.0.0.1:1', pathStyle: true };
    const destination = destinationAt(newPrefix(), { location, limits: QUICK });
    await expect(put(destination)).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
    await expect(keys(destination, '')).rejects.toMatchObject({ code: 'DEST_UNREACHABLE' });
  });

  test('a server that goes silent during a check: the rest is unverified, and nothing counts as damaged', async () => {
    const prefix = newPrefix();
    const limits = { ...QUICK, silenceMs: SILENCE_MS, outageMs: 2 * SILENCE_MS };
    const location = { bucket, prefix, endpoint: proxy.endpoint, pathStyle: true };
    const repository = await openRepository(destinationAt(prefix), { project: 'shop', create: true, keys: {} });
    const sources: Manifest['sources'] = {};
    for (let i = 0; i < 12; i++) {
      const facts = await repository.putFacts(SNAPSHOT, `web.${i}`, { i });
      const counts = { files: 0, bytes: 0, newBytes: 0, newFiles: 0, summary: '', warnings: [], skipped: {} };
      sources[`web.${i}`] = { kind: 'volume', status: 'ok', facts, ...counts };
    }
    const time = new Date().toISOString();
    const dates = { start: time, end: time, trigger: 'manual', agentVersion: '0', status: 'ok' } as const;
    await repository.commit({
      ...{ format: FORMAT, id: SNAPSHOT, project: 'shop', sequence: 1, previous: null, sources },
      ...dates,
    });
    const destination = destinationAt(prefix, { location, limits });
    const again = await openRepository(destination, { project: 'shop', create: false, keys: {} });
    let silent = false;
    proxy.script(({ path }) => {
      silent ||= path.includes('web.5');
      return silent ? 'hang' : undefined;
    });
    const signal = new AbortController().signal;
    const { damaged, unread, stopped } = await check(again, { readData: 1, spool: scratch, signal });
    const expected = { damaged: [], unread: [], stopped: 'DEST_UNREACHABLE' };
    expect({ damaged, unread, stopped: stopped?.code }).toEqual(expected);
    // Not eight times a minute for each of the seven remaining objects.
    expect(proxy.faults).toBeLessThan(10);
  });

  test('a proxy in the environment is used, and NO_PROXY is honoured', async () => {
    const prefix = newPrefix();
    // A forwarding proxy receives the whole URL. This one forwards every path to the same server.
    const env = { HTTP_PROXY: proxy.endpoint };
    await put(destinationAt(prefix, { env }));
    expect(proxy.seen.map(({ operation }) => operation)).toEqual(['HeadObject', 'PutObject', 'HeadObject']);
    const direct = destinationAt(prefix, { env: { ...env, no_proxy: new URL(server.endpoint).hostname } });
    expect(String(await read(direct, 'shop/object'))).toBe('x');
    expect(proxy.seen).toHaveLength(3);
  });
});
