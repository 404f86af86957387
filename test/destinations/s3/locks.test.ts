import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createS3Destination } from '../../../src/destinations/s3/s3.ts';
import { memoryS3, s3Error, startStubS3 } from '../../harness/stub-s3.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'locks-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Extends the locks of two objects at a server with these responses. Returns the outcome: a number, or a code. */
async function prolong(status: number, name: string, head: number | string) {
  const stub = await startStubS3(({ method }, answer) => {
    if (method !== 'HEAD') answer.writeHead(status).end(s3Error(name));
    else if (typeof head === 'number') answer.writeHead(head).end();
    else answer.writeHead(200, { etag: '"a"', ...(head === '' ? {} : { 'x-amz-object-lock-mode': head }) }).end();
  });
  const limits = { attempts: 2, baseDelayMs: 1 };
  const { location, credentials } = stub;
  const destination = createS3Destination({
    location,
    credentials,
    uploads: path.join(directory, 'uploads'),
    env: {},
    limits,
  });
  try {
    return await destination.prolongLocks(['lifeboat.json', 'shop/a'], new Date(), new AbortController().signal);
  } catch (error) {
    return error;
  } finally {
    stub.stop();
  }
}

test.each([
  [404, 'ObjectLockConfigurationNotFoundError'],
  [404, 'NoSuchObjectLockConfiguration'],
  [405, 'MethodNotAllowed'],
  [501, 'NotImplemented'],
  [400, 'NotImplemented'],
  [409, 'InvalidBucketState'],
])('a bucket that responds with %d %s does not lock', async (status, name) => {
  expect(await prolong(status, name, 'GOVERNANCE')).toBe(0);
});

test.each([
  [429, 'TooManyRequests', 'DEST_UNREACHABLE'],
  [503, 'SlowDown', 'DEST_UNREACHABLE'],
  [400, 'ExpiredToken', 'DEST_UNWRITABLE'],
])('it is unknown whether a bucket that responds with %d %s locks', async (status, name, code) => {
  expect(await prolong(status, name, '')).toMatchObject({ code });
});

test('a key that may not read the configuration fails only where objects are, or may be, locked', async () => {
  const refused = { code: 'DEST_UNWRITABLE', hint: expect.stringContaining('s3:GetBucketObjectLockConfiguration') };
  expect(await prolong(403, 'AccessDenied', 'COMPLIANCE')).toMatchObject(refused);
  expect(await prolong(403, 'AccessDenied', 403)).toMatchObject(refused);
  expect(await prolong(403, 'AccessDenied', '')).toBe(0);
});

describe('the lock of an object that was deleted, or stored again', () => {
  /** A bucket that locks. `onLock` runs before it locks an object. */
  async function makeBucket(onLock = async (_key: string) => {}) {
    const locked = new Set<string>();
    const bucket = memoryS3({
      first({ method, key, query }, answer) {
        if (query.has('object-lock')) answer.end(CONFIGURATION);
        else if (method === 'PUT' && query.has('retention')) {
          locked.add(key);
          onLock(key).then(() => answer.end());
        } else return false;
        return true;
      },
    });
    const stub = await startStubS3(bucket.answer);
    const open = () => createS3Destination({ ...stub, uploads: path.join(directory, 'uploads'), env: {} });
    return {
      ...{ bucket, stub, open },
      put: (key: string) => open().put(key, Readable.from([Buffer.from(key)])),
      /** Returns the objects that it had to lock. */
      async prolong(keys: readonly string[]) {
        locked.clear();
        await open().prolongLocks(keys, new Date(), new AbortController().signal);
        return [...locked].sort();
      },
    };
  }

  test('is that of its earlier version, so it is locked again', async () => {
    const { bucket, stub, open, put, prolong } = await makeBucket();
    try {
      const keys = ['shop/deleted', 'shop/one-of-many', 'shop/replaced', 'shop/kept'];
      for (const key of keys) await put(key);
      expect(await prolong(keys)).toEqual(keys.toSorted());
      expect(await prolong(keys)).toEqual([]);
      await open().delete('shop/deleted');
      await open().deleteMany(['shop/one-of-many', 'shop/other']);
      // Somebody else has deleted it.
      bucket.objects.delete('shop/replaced');
      for (const key of keys.slice(0, 3)) await put(key);
      expect(await prolong(keys)).toEqual(['shop/deleted', 'shop/one-of-many', 'shop/replaced']);
    } finally {
      stub.stop();
    }
  });

  test('is forgotten for each of those that are deleted at the same time', async () => {
    const { stub, open, put, prolong } = await makeBucket();
    try {
      const gone = Array.from({ length: 20 }, (_, i) => `shop/${i}`).sort();
      const keys = [...gone, 'shop/kept'];
      for (const key of keys) await put(key);
      expect(await prolong(keys)).toEqual(keys);
      const one = open();
      await Promise.all(gone.map((key, i) => (i % 2 === 0 ? one : open()).delete(key)));
      for (const key of gone) await put(key);
      expect(await prolong(keys)).toEqual(gone);
    } finally {
      stub.stop();
    }
  });

  test('is forgotten while locks are extended', async () => {
    let isNew = false;
    const made = await makeBucket(async (key) => {
      if (key !== 'shop/gone' || isNew) return;
      isNew = true;
      await made.open().delete(key);
      await made.put(key);
    });
    const { stub, put, prolong } = made;
    try {
      const keys = ['shop/gone', 'shop/kept'];
      for (const key of keys) await put(key);
      expect(await prolong(keys)).toEqual(keys);
      expect(await prolong(keys)).toEqual(['shop/gone']);
    } finally {
      stub.stop();
    }
  });
});

const CONFIGURATION =
  '<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>';
