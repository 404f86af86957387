import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  DeleteObjectCommand,
  GetBucketLifecycleConfigurationCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutBucketLifecycleConfigurationCommand,
  PutBucketPolicyCommand,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type SetupRequest, setUpBucket, undelete } from '../../../src/app/bucket.ts';
import type { LockingDestination } from '../../../src/destinations/destination.ts';
import { S3Bucket } from '../../../src/destinations/s3/bucket.ts';
import { agentPolicy, type PolicyWish } from '../../../src/destinations/s3/policy.ts';
import { createS3Destination } from '../../../src/destinations/s3/s3.ts';
import { undeleteObjects } from '../../../src/destinations/s3/undelete.ts';
import { destinationContract, keys, read } from '../../contract/destination.ts';
import { S3_KEY, type S3Server, startS3Server } from '../../harness/s3-server.ts';

const MIB = 1024 * 1024;
const DAY_MS = 86_400_000;
const { signal } = new AbortController();

let server: S3Server;
let scratch: string;
let made = 0;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'lifeboat-bucket-'));
  server = await startS3Server();
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const locationOf = (bucket: string, prefix = 'shop/') => ({
  ...{ bucket, prefix, endpoint: server.endpoint, pathStyle: true },
});
const bucketAt = (bucket: string, key = S3_KEY) =>
  new S3Bucket({ location: locationOf(bucket), credentials: key, env: {} });
const destinationAt = (bucket: string, { key = S3_KEY, prefix = 'shop/' } = {}): LockingDestination =>
  createS3Destination({
    ...{ location: locationOf(bucket, prefix), credentials: key, env: {} },
    uploads: join(scratch, `uploads-${++made}`),
  });
const put = (destination: LockingDestination, key: string, content: string | Buffer) =>
  destination.put(key, Readable.from([content]));

/** Creates a user with the rights of the policy in the bucket. */
async function userWith(wish: Omit<PolicyWish, 'prefix' | 'principal'>) {
  const { arn, key } = await server.user();
  const Policy = JSON.stringify(agentPolicy({ prefix: 'shop/', principal: arn, ...wish }));
  await server.client.send(new PutBucketPolicyCommand({ Bucket: wish.bucket, Policy }));
  return key;
}

describe('setting up', () => {
  const states = async (bucket: string, request: SetupRequest) => {
    const { steps } = await setUpBucket(bucketAt(bucket), request);
    return Object.fromEntries(steps.map(({ name, state }) => [name, state]));
  };
  const rest = { versioning: 'to do', 'public access': 'to do', lifecycle: 'to do' };
  const lock: SetupRequest = { lock: 1, lockMode: 'compliance', infrequentAfter: 30, archiveRemovedAfter: 5 };

  test('creates a missing bucket with all settings, and then finds nothing left to do', async () => {
    const name = `made-${randomBytes(5).toString('hex')}`;
    expect(await states(name, lock)).toEqual({ ...rest, bucket: 'to do', lock: 'to do' });
    expect(await states(name, lock)).toHaveProperty('bucket');
    const done = { versioning: 'done', lifecycle: 'done', lock: 'done' };
    expect(await states(name, { ...lock, yes: true })).toMatchObject({ ...done, bucket: 'done' });
    const same = { versioning: 'as wanted', lifecycle: 'as wanted', lock: 'as wanted' };
    expect(await states(name, lock)).toMatchObject(same);
    expect(await states(name, { ...lock, yes: true })).toMatchObject(same);
    expect(await states(name, { ...lock, infrequentAfter: 60, yes: true })).toMatchObject({
      ...same,
      lifecycle: 'done',
    });
  });

  test('removes a block of public access that would prevent backups', async () => {
    const name = await server.bucket();
    const { steps } = await setUpBucket(bucketAt(name), { yes: true });
    // Ceph 18 then refuses every object. A server that does not keeps the block.
    const blocked = (await bucketAt(name).look()).publicAccessBlocked;
    const step = steps.find(({ name: each }) => each === 'public access');
    expect(step?.state).toBe('value' in blocked && blocked.value ? 'done' : 'not here');
    await put(destinationAt(name), 'web/x', 'still stored');
    expect(await server.keys(name)).toEqual(['shop/web/x']);
  });

  test('reports a bucket created without locks, which cannot lock, and applies the other settings', async () => {
    const name = await server.bucket();
    const { steps } = await setUpBucket(bucketAt(name), { ...lock, yes: true });
    expect(steps.find(({ name: step }) => step === 'lock')).toMatchObject({
      state: 'not here',
      why: 'this server only locks buckets that were created with a lock',
    });
    expect(await states(name, {})).toMatchObject({ versioning: 'as wanted', lock: 'left' });
  });

  test('leaves other rules unchanged, and reports those that would harm backups', async () => {
    const Bucket = await server.bucket();
    const theirs = [
      { ID: 'logs', Status: 'Enabled' as const, Filter: { Prefix: 'logs/' }, Expiration: { Days: 9 } },
      { ID: 'sweep', Status: 'Enabled' as const, Filter: { Prefix: 'sh' }, Expiration: { Days: 400 } },
    ];
    const LifecycleConfiguration = { Rules: theirs };
    await server.client.send(new PutBucketLifecycleConfigurationCommand({ Bucket, LifecycleConfiguration }));
    const { problems } = await setUpBucket(bucketAt(Bucket), { yes: true });
    expect(problems).toEqual([{ rule: 'sweep', what: 'objects expire after 400 days' }]);
    expect(await bucketAt(Bucket).harmfulRules()).toEqual(problems);
    const { Rules = [] } = await server.client.send(new GetBucketLifecycleConfigurationCommand({ Bucket }));
    const others = Rules.filter(({ ID }) => ID !== 'lifeboat shop/');
    expect(others.sort((a, b) => ((a.ID ?? '') < (b.ID ?? '') ? -1 : 1))).toEqual(theirs);
    expect(Rules).toHaveLength(3);
  });

  test('leaves settings of the whole bucket unchanged if others store in it', async () => {
    for (const Key of ['site/index.html', 'zoo/x', 'shop.txt']) {
      const Bucket = await server.bucket();
      await server.client.send(new PutObjectCommand({ Bucket, Key: 'shop/web/x', Body: 'ours' }));
      expect((await bucketAt(Bucket).look()).foreign).toBeUndefined();
      await server.client.send(new PutObjectCommand({ Bucket, Key, Body: 'theirs' }));
      expect(await states(Bucket, { yes: true })).toMatchObject({
        ...{ versioning: 'left', 'public access': 'left', lifecycle: 'done' },
      });
      expect(await states(Bucket, { yes: true, wholeBucket: true })).toMatchObject({ versioning: 'done' });
    }
  });

  test('reports a key that lacks the permission', async () => {
    const bucket = await server.bucket();
    const key = await userWith({ bucket });
    await expect(
      setUpBucket(bucketAt('made-by-nobody', { ...key, secretAccessKey: 'canary-no' }), {}),
    ).rejects.toMatchObject({ code: 'DEST_UNWRITABLE' });
    const { steps } = await setUpBucket(bucketAt(bucket, key), { yes: true });
    expect(Object.fromEntries(steps.map(({ name, state }) => [name, state]))).toMatchObject({
      ...{ versioning: 'failed', lifecycle: 'failed' },
    });
  });
});

describe('the policy', () => {
  let bucket: string;
  let key: typeof S3_KEY;
  beforeAll(async () => {
    bucket = await server.bucket();
    key = await userWith({ bucket });
  });

  destinationContract('s3 with the least policy', async () => ({
    destination: destinationAt(bucket, { key, prefix: `shop/p${++made}/` }),
    cleanUp: async () => undefined,
  }));

  test('allows uploads in parts and their sweeping, and nothing outside the prefix', async () => {
    const destination = destinationAt(bucket, { key });
    await put(destination, 'web/large', randomBytes(9 * MIB));
    expect(await destination.sweepTemporary()).toBe(0);
    await expect(put(destinationAt(bucket, { key, prefix: 'blog/' }), 'x', 'x')).rejects.toMatchObject({
      code: 'DEST_UNWRITABLE',
    });
    expect(await bucketAt(bucket, key).harmfulRules()).toEqual([]);
  });

  test('without delete permission allows storing and reading everything, and deleting nothing', async () => {
    const own = await server.bucket();
    const destination = destinationAt(own, { key: await userWith({ bucket: own, appendOnly: true }) });
    await put(destination, 'web/small', 'small');
    await put(destination, 'web/large', randomBytes(9 * MIB));
    await expect(put(destination, 'web/small', 'other')).rejects.toMatchObject({ code: 'DEST_EXISTS' });
    await expect(destination.delete('web/small')).rejects.toMatchObject({ code: 'DELETE_REFUSED' });
    await expect(destination.delete('web/nothing')).rejects.toMatchObject({ code: 'DELETE_REFUSED' });
    expect(String(await read(destination, 'web/small'))).toBe('small');
    expect(await keys(destination, '')).toEqual(['web/large', 'web/small']);
  });
});

describe('a bucket that locks', () => {
  let bucket: string;
  beforeAll(async () => {
    bucket = `lock-${randomBytes(5).toString('hex')}`;
    await setUpBucket(bucketAt(bucket), { lock: 1, lockMode: 'compliance', yes: true });
  });
  const lockedUntil = async (Key: string, owner = server.client) => {
    const { ObjectLockRetainUntilDate: date } = await owner.send(new HeadObjectCommand({ Bucket: bucket, Key }));
    return date?.getTime() ?? 0;
  };

  test('extends locks that end too early, and reads each only once', async () => {
    const destination = destinationAt(bucket);
    for (const name of ['a', 'b', 'c']) await put(destination, `web/${name}`, name);
    const first = Date.now();
    const at = (hours: number) => new Date(first + hours * 3_600_000);
    expect(await destination.prolongLocks(['web/a', 'web/b'], at(12), signal)).toBe(2);
    expect(await lockedUntil('shop/web/a')).toBe(at(12).getTime() + 1.25 * DAY_MS);
    expect(await lockedUntil('shop/web/c')).toBeLessThan(first + DAY_MS + 60_000);
    expect(await destination.prolongLocks(['web/a', 'web/b'], at(18), signal)).toBe(0);
    // Another agent, which remembers nothing, reads them.
    expect(await destinationAt(bucket).prolongLocks(['web/a', 'web/b', 'web/c'], at(18), signal)).toBe(1);
    expect(await destination.prolongLocks(['web/a', 'web/b'], at(19), signal)).toBe(2);
    await expect(destination.prolongLocks(['web/none'], at(12), signal)).rejects.toMatchObject({
      code: 'OBJECT_MISSING',
    });
    expect(await destinationAt(await server.bucket()).prolongLocks(['web/none'], at(12), signal)).toBe(0);
  });

  test('has a policy with which the agent can extend locks, and not without', async () => {
    const key = await userWith({ bucket, appendOnly: true, lockDays: 1 });
    const destination = destinationAt(bucket, { key });
    await put(destination, 'web/by-user', 'x');
    const later = new Date(Date.now() + 3_600_000);
    expect(await destination.prolongLocks(['web/by-user'], later, signal)).toBe(1);
    const less = destinationAt(bucket, { key: await userWith({ bucket, appendOnly: true }) });
    // On this server, the owner of an object may lock it too.
    await put(destinationAt(bucket), 'web/by-owner', 'x');
    await expect(less.prolongLocks(['web/by-owner'], later, signal)).rejects.toMatchObject({
      code: 'DEST_UNWRITABLE',
      hint: expect.stringContaining('s3:PutObjectRetention'),
    });
  });
});

describe('a repository with deleted and overwritten objects', () => {
  let bucket: string;
  const contents = new Map<string, Buffer>();
  let before: Date;
  beforeAll(async () => {
    bucket = `row29-${randomBytes(5).toString('hex')}`;
    await setUpBucket(bucketAt(bucket), { lock: 1, lockMode: 'compliance', yes: true });
    contents.set('lifeboat.json', Buffer.from('{}'));
    for (let i = 0; i < 25; i++) contents.set(`web/packs/web.media/${i} ü+&%.zip`, randomBytes(2000));
    contents.set('web/packs/web.media/large', randomBytes(11 * MIB));
    const destination = destinationAt(bucket);
    for (const [key, content] of contents) await put(destination, key, content);
    await put(destination, 'web/snapshots/pruned', 'gone long ago');
    await destination.delete('web/snapshots/pruned');
    await sleep(1100);
    before = new Date();
    await sleep(1100);
  });
  const versions = async () => {
    const all = await server.client.send(new ListObjectVersionsCommand({ Bucket: bucket }));
    return [...(all.Versions ?? []), ...(all.DeleteMarkers ?? [])];
  };
  const back = (yes: boolean, at = before) => undelete(bucketAt(bucket), { before: at, yes, now: new Date(), signal });

  test('is fully restored, even after an attack with the key of the agent, which owns the bucket', async () => {
    const thief = server.client;
    for (const [i, key] of [...contents.keys()].entries()) {
      const Key = `shop/${key}`;
      if (i % 3 !== 0) await thief.send(new PutObjectCommand({ Bucket: bucket, Key, Body: 'pay me' }));
      if (i % 3 !== 1) await thief.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    }
    for (const key of ['web/leases/9999999999.json', 'web/snapshots/pruned'])
      await thief.send(new PutObjectCommand({ Bucket: bucket, Key: `shop/${key}`, Body: 'forged' }));
    await thief.send(new PutObjectCommand({ Bucket: bucket, Key: 'shop/notes.txt', Body: 'of somebody else' }));
    let refused = 0;
    for (const { Key = '', VersionId } of await versions()) {
      // Without its marker, an object deleted long ago would seem to exist at that time.
      if (Key.endsWith('/pruned')) continue;
      const request = { Bucket: bucket, Key, VersionId, BypassGovernanceRetention: true };
      await thief.send(new DeleteObjectCommand(request)).catch(() => refused++);
    }
    expect(refused).toBeGreaterThan(contents.size);
    expect((await keys(destinationAt(bucket), '')).length).toBeGreaterThan(3);
    // The thief has deleted his own markers, so this covers objects that were only overwritten, and only deleted.
    for (const key of contents.keys())
      await thief.send(new DeleteObjectCommand({ Bucket: bucket, Key: `shop/${key}` }));

    const shown = await back(false);
    expect(shown).toMatchObject({ same: 1, hidden: 2, failed: [] });
    expect(shown.undeleted + shown.copied).toBe(contents.size);
    expect(shown.undeleted).toBeGreaterThan(3);
    expect(shown.copied).toBeGreaterThan(3);
    expect(await keys(destinationAt(bucket), '')).toEqual([
      'notes.txt',
      'web/leases/9999999999.json',
      'web/snapshots/pruned',
    ]);

    expect(await back(true)).toEqual(shown);
    const destination = destinationAt(bucket);
    expect(await keys(destination, '')).toEqual([...contents.keys(), 'notes.txt'].sort());
    for (const [key, content] of contents) expect((await read(destination, key)).equals(content), key).toBe(true);
    const again = await back(true);
    // A large object that was copied has a different ETag, because its parts differ.
    expect(again.copied).toBeLessThan(2);
    expect(again).toMatchObject({ undeleted: 0, hidden: 0, failed: [] });
  });

  test('an object too large for one copy request is copied in parts', async () => {
    const destination = destinationAt(bucket);
    const key = 'web/packs/web.media/large';
    await destination.delete(key);
    await put(destination, key, 'pay me');
    const options = { at: before.getTime(), dryRun: false, signal, wholeCopy: 5 * MIB };
    expect(await undeleteObjects(bucketAt(bucket).s3, options)).toMatchObject({ copied: 1, failed: [] });
    expect((await read(destination, key)).equals(contents.get(key) ?? Buffer.alloc(0))).toBe(true);
    expect(await server.uploads(bucket)).toEqual([]);
  });

  test('a bucket without versions, and a time in the future, are rejected', async () => {
    const none = bucketAt(await server.bucket());
    const past = { before: new Date(0), yes: true, now: new Date(), signal };
    await expect(undelete(none, past)).rejects.toMatchObject({ code: 'USAGE' });
    await expect(back(true, new Date(Date.now() + 60_000))).rejects.toMatchObject({ code: 'USAGE' });
  });
});
