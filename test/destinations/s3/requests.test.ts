import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { BulkDeletingDestination } from '../../../src/destinations/destination.ts';
import { createS3Destination, type S3Options } from '../../../src/destinations/s3/s3.ts';
import type { S3Location } from '../../../src/plan/s3-location.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { keys } from '../../contract/destination.ts';
import { memoryS3, s3Error, startStubS3 } from '../../harness/stub-s3.ts';

/** Which requests a bucket receives, and with which headers. */

let uploads: string;
const stops: (() => void)[] = [];
beforeEach(() => {
  uploads = mkdtempSync(join(tmpdir(), 'lifeboat-requests-'));
});
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
  rmSync(uploads, { recursive: true, force: true });
});

async function open(bucket = memoryS3(), location: Partial<S3Location> = {}, options: Partial<S3Options> = {}) {
  const stub = await startStubS3(bucket.answer);
  stops.push(stub.stop);
  const limits = { attempts: 3, baseDelayMs: 1 };
  const { credentials } = stub;
  const destination = createS3Destination({
    ...{ location: { ...stub.location, ...location }, credentials, limits, uploads, env: {} },
    ...options,
  });
  const methods = () => bucket.seen.map(({ method }) => method);
  return { ...bucket, destination, methods };
}

test.each([
  ['with quotes', '"'],
  ['without quotes', ''],
])('an object is replaced only while it has the version that was listed (%s)', async (_, quote) => {
  const { destination, methods, objects, seen } = await open(
    memoryS3({ conditionOf: (etag) => etag.replaceAll('"', quote) }),
  );
  await destination.put('a/b', streamOf('x'), { newKey: true });
  const version = async () => {
    let found = '';
    for await (const object of destination.list('a/')) found = object.version ?? '';
    return found;
  };
  const first = await version();
  seen.length = 0;
  expect(await destination.replace('a/b', Buffer.from('y'), first)).toBe(true);
  expect(methods()).toEqual(quote ? ['PUT'] : ['PUT', 'PUT']);
  expect(await destination.replace('a/b', Buffer.from('z'), first)).toBe(false);
  expect(await destination.replace('a/none', Buffer.from('z'), first)).toBe(false);
  expect([...objects].map(([key, { content }]) => [key, String(content)])).toEqual([['a/b', 'y']]);
  expect(await destination.replace('a/b', Buffer.from('z'), await version())).toBe(true);
});

test('a listing after a key asks for no earlier ones, also below a prefix of the bucket', async () => {
  const { destination, seen } = await open(memoryS3(), { prefix: 'backups/' });
  for (const key of ['a/1', 'a/2', 'a/3']) await destination.put(key, streamOf('x'), { newKey: true });
  seen.length = 0;
  // The stand-in does not know the parameter.
  expect(await keys(destination, 'a/', { after: 'a/2' })).toEqual(['a/3']);
  expect(seen.map(({ query }) => query.get('start-after'))).toEqual(['backups/a/2']);
});

describe('a put', () => {
  test('looks for the object before and after', async () => {
    const { destination, methods } = await open();
    await destination.put('a/b', streamOf('x'));
    expect(methods()).toEqual(['HEAD', 'PUT', 'HEAD']);
    await expect(destination.put('a/b', streamOf('y'))).rejects.toMatchObject({ code: 'DEST_EXISTS' });
  });

  test('of a key that is new by its name is one request; a server that honours conditions still replaces nothing', async () => {
    const { destination, methods, objects } = await open();
    await destination.put('a/b', streamOf('x'), { newKey: true });
    expect(methods()).toEqual(['PUT']);
    await expect(destination.put('a/b', streamOf('y'), { newKey: true })).rejects.toMatchObject({
      code: 'DEST_EXISTS',
    });
    expect(String(objects.get('a/b')?.content)).toBe('x');
  });

  test('that its caller reads back does not read it back too', async () => {
    const { destination, methods } = await open();
    await destination.put('a/b', streamOf('x'), { readBackByCaller: true });
    expect(methods()).toEqual(['HEAD', 'PUT']);
  });

  test('reads the object back if the response does not prove the content', async () => {
    for (const etag of ['"0123456789abcdef0123456789abcdef"', '"5d41402abc4b2a76b9719d911017c592-1"']) {
      const { destination, methods } = await open(memoryS3({ etagOf: () => etag }));
      await destination.put('a/b', streamOf('x'), { newKey: true });
      expect(methods(), etag).toEqual(['PUT', 'HEAD']);
    }
  });

  test('reads the object back after an attempt whose outcome is unknown', async () => {
    let failures = 1;
    const first = ({ method }: { method: string }, answer: { writeHead(status: number): { end(): void } }) => {
      if (method !== 'PUT' || failures-- <= 0) return false;
      answer.writeHead(500).end();
      return true;
    };
    const { destination, methods } = await open(memoryS3({ first }));
    await destination.put('a/b', streamOf('x'), { newKey: true });
    expect(methods()).toEqual(['PUT', 'HEAD', 'PUT', 'HEAD']);
  });
});

describe('a listing', () => {
  test.each([
    [
      'objects',
      '<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a/b</Key><Size>1</Size></Contents></ListBucketResult>',
    ],
    ['objects, an empty page', '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>'],
  ])('that ends early without a token is no whole listing: %s', async (_, page) => {
    const first = ({ query }: { query: URLSearchParams }, answer: { end(text: string): void }) => {
      if (query.has('list-type')) answer.end(page);
      return query.has('list-type');
    };
    const { destination } = await open(memoryS3({ first }));
    await expect(keys(destination, '')).rejects.toMatchObject({
      code: 'DEST_UNREACHABLE',
      message: expect.stringContaining('ended a listing early'),
    });
  });

  test('shows whether an object was written again', async () => {
    const { destination, objects } = await open();
    await destination.put('a/b', streamOf('x'));
    const version = async () => {
      for await (const object of destination.list('')) return object.version;
      return undefined;
    };
    const before = await version();
    expect(before).toBeDefined();
    expect(await version()).toBe(before);
    objects.set('a/b', { content: Buffer.from('y'), headers: {}, at: objects.get('a/b')?.at as Date });
    expect(await version()).not.toBe(before);
  });
});

describe('many deletions', () => {
  const fill = async (destination: BulkDeletingDestination, count: number) => {
    const all = Array.from({ length: count }, (_, i) => `a/${String(i).padStart(4, '0')}`);
    for (const key of all) await destination.put(key, streamOf('x'), { newKey: true });
    return all;
  };
  const requests = ({ seen }: Awaited<ReturnType<typeof open>>) =>
    seen.flatMap(({ method, query }) => (method === 'DELETE' ? ['one'] : query.has('delete') ? ['many'] : []));

  test('are one request, each proved first', async () => {
    const opened = await open();
    const all = await fill(opened.destination, 30);
    let proofs = 0;
    const before = async () => void proofs++;
    expect(await opened.destination.deleteMany(all, { before })).toEqual([]);
    expect(requests(opened)).toEqual(['many']);
    expect(proofs).toBe(1);
    expect(opened.objects.size).toBe(0);
  });

  test.each([501, 405, 400, 403])(
    'fall back to single requests, side by side, at a server without them: %i',
    async (status) => {
      let most = 0;
      let now = 0;
      const bucket = memoryS3({
        first: ({ method, query, key }, answer) => {
          if (query.has('delete')) return answer.writeHead(status).end(s3Error('NotImplemented')) !== undefined;
          if (method !== 'DELETE') return false;
          most = Math.max(most, ++now);
          setTimeout(() => {
            now--;
            bucket.objects.delete(key);
            answer.writeHead(204).end();
          }, 5);
          return true;
        },
      });
      const opened = await open(bucket);
      const all = await fill(opened.destination, 20);
      expect(await opened.destination.deleteMany(all)).toEqual([]);
      expect(opened.objects.size).toBe(0);
      expect(most).toBeGreaterThan(1);
      await fill(opened.destination, 2);
      expect(await opened.destination.deleteMany(['a/0000', 'a/0001'])).toEqual([]);
      expect(requests(opened).filter((one) => one === 'many')).toHaveLength(1);
    },
  );

  test('report the objects that are locked, and delete the others', async () => {
    const bucket = memoryS3({
      first: ({ method, query, key }, answer) => {
        if (query.has('delete')) {
          bucket.objects.delete('a/0000');
          answer.end('<DeleteResult><Error><Key>a/0001</Key><Code>AccessDenied</Code></Error></DeleteResult>');
          return true;
        }
        if (method !== 'DELETE' || key !== 'a/0001') return false;
        answer.writeHead(403).end(s3Error('AccessDenied'));
        return true;
      },
    });
    const opened = await open(bucket);
    expect(await opened.destination.deleteMany(await fill(opened.destination, 2))).toEqual(['a/0001']);
    expect([...opened.objects.keys()]).toEqual(['a/0001']);
  });

  test('of a name that no object can have reject', async () => {
    const { destination } = await open();
    await expect(destination.delete('')).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(destination.deleteMany(['a/b', '..'])).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('stop if the proof fails', async () => {
    const opened = await open();
    const all = await fill(opened.destination, 3);
    const before = async () => {
      throw new Error('the lease is lost');
    };
    await expect(opened.destination.deleteMany(all, { before })).rejects.toThrow('the lease is lost');
    expect(opened.objects.size).toBe(3);
  });
});

describe('the headers of requests', () => {
  const PACK = 'shop/packs/web.media/39/399c742c46fa5bb8e1a44f1096c1d266.zip';
  const OTHERS = [
    'shop/snapshots/1/manifest.json',
    'shop/leases/0000000001.json',
    'lifeboat.json',
    'packs/pins/1.json',
  ];

  test('only packs get the storage class of the location', async () => {
    const { destination, seen } = await open(memoryS3(), { storageClass: 'GLACIER' });
    for (const key of [PACK, ...OTHERS]) await destination.put(key, streamOf('x'));
    const classes = seen.filter(({ method }) => method === 'PUT').map(({ headers }) => headers['x-amz-storage-class']);
    expect(classes).toEqual(['GLACIER', ...OTHERS.map(() => undefined)]);
  });

  test('a KMS key and an ACL are part of each put, and the requester pays for each request', async () => {
    const location = {
      encryption: 'aws:kms',
      kmsKey: 'arn:aws:kms:k',
      acl: 'bucket-owner-full-control',
      requesterPays: true,
    };
    const { destination, seen } = await open(memoryS3(), location as Partial<S3Location>);
    await destination.put('a/b', streamOf('x'));
    await destination.put('a/large', streamOf(Buffer.alloc(6_000_000))).catch(() => undefined);
    await (await destination.get('a/b')).toArray();
    await keys(destination, '');
    await destination.delete('a/b');
    for (const { headers } of seen) expect(headers['x-amz-request-payer']).toBe('requester');
    const storing = seen.filter(({ method, query }) => method === 'PUT' || query.has('uploads'));
    expect(storing.length).toBeGreaterThan(1);
    for (const { method, headers, query } of seen) {
      const stores = (method === 'PUT' && !query.has('partNumber')) || query.has('uploads');
      expect(headers['x-amz-server-side-encryption']).toBe(stores ? 'aws:kms' : undefined);
      expect(headers['x-amz-server-side-encryption-aws-kms-key-id']).toBe(stores ? 'arn:aws:kms:k' : undefined);
      expect(headers['x-amz-acl']).toBe(stores ? 'bucket-owner-full-control' : undefined);
    }
  });

  test('a customer key is part of each request for content, and of no other', async () => {
    const customerKey = Buffer.alloc(32, 7).toString('base64');
    const { destination, seen } = await open(memoryS3(), { encryption: 'customer' }, { customerKey });
    await destination.put('a/b', streamOf('x'));
    await (await destination.get('a/b')).toArray();
    await keys(destination, '');
    await destination.delete('a/b');
    for (const { method, key, headers } of seen) {
      const needed = key !== '' && method !== 'DELETE';
      const name = 'x-amz-server-side-encryption-customer';
      const given = ['algorithm', 'key', 'key-md5'].map((part) => headers[`${name}-${part}`]);
      expect(given, method).toEqual(
        needed ? ['AES256', customerKey, expect.any(String)] : [undefined, undefined, undefined],
      );
    }
  });
});
