import type { LifecycleRule } from '@aws-sdk/client-s3';
import { describe, expect, test } from 'vitest';
import { wishOf } from '../../../src/app/bucket.ts';
import { agentPolicy } from '../../../src/destinations/s3/policy.ts';
import { describeRule, harmfulRules, mergeRules, ownRule, sameRule } from '../../../src/destinations/s3/rules.ts';
import { type BucketLook, planSetup } from '../../../src/destinations/s3/setup.ts';
import { planUndelete, type Version } from '../../../src/destinations/s3/versions.ts';

const WISH = { infrequent: 30, removed: 60, archive: { days: 10, storageClass: 'GLACIER' as const }, uploads: 7 };
const rule = (over: Partial<LifecycleRule>): LifecycleRule => ({ ID: 'other', Status: 'Enabled', ...over });

describe('the lifecycle rule of Lifeboat', () => {
  test('moves objects, and expires only removed ones', () => {
    expect(ownRule('shop/', WISH)).toEqual({
      ID: 'lifeboat shop/',
      Status: 'Enabled',
      Filter: { Prefix: 'shop/' },
      Expiration: { ExpiredObjectDeleteMarker: true },
      Transitions: [{ Days: 30, StorageClass: 'STANDARD_IA' }],
      NoncurrentVersionTransitions: [{ NoncurrentDays: 10, StorageClass: 'GLACIER' }],
      NoncurrentVersionExpiration: { NoncurrentDays: 60 },
      AbortIncompleteMultipartUpload: { DaysAfterInitiation: 7 },
    });
    expect(harmfulRules([ownRule('shop/', WISH)], 'shop/')).toEqual([]);
  });

  test('replaces its earlier version, and leaves other rules unchanged', () => {
    const others = [rule({ ID: 'logs', Prefix: 'logs/' }), rule({ ID: 'lifeboat blog/' })];
    const own = ownRule('shop/', WISH);
    expect(mergeRules(others, own)).toEqual([...others, own]);
    const former = ownRule('shop/', { removed: 5, uploads: 1 });
    expect(mergeRules([others[0]!, former, others[1]!], own)).toEqual([others[0], own, others[1]]);
    expect(mergeRules([], own)).toEqual([own]);
  });

  test('is recognised in the form in which servers return it, and not if any of it differs', () => {
    const own = ownRule('shop/', WISH);
    const { Filter: _, ...rest } = own;
    expect(sameRule({ ...rest, Prefix: 'shop/' }, own)).toBe(true);
    expect(sameRule({ ...own, Status: 'Disabled' }, own)).toBe(false);
    expect(sameRule({ ...own, Filter: { Prefix: 'shop2/' } }, own)).toBe(false);
    for (const over of [{ removed: 61 }, { infrequent: 31 }, { uploads: 8 }])
      expect(sameRule(ownRule('shop/', { ...WISH, ...over }), own)).toBe(false);
  });
});

describe('other rules', () => {
  const harm = (one: LifecycleRule, prefix = 'shop/') => harmfulRules([one], prefix).map(({ what }) => what);

  test('that expire or archive current objects are reported if they apply to the prefix', () => {
    const expire = { Expiration: { Days: 90 } };
    for (const prefix of ['', 's', 'shop', 'shop/', 'shop/web/packs/']) {
      expect(harm(rule({ ...expire, Filter: { Prefix: prefix } })), prefix).toEqual(['objects expire after 90 days']);
      expect(harm(rule({ ...expire, Prefix: prefix })), prefix).toHaveLength(1);
    }
    expect(harm(rule(expire))).toHaveLength(1);
    expect(harm(rule({ ...expire, Filter: { And: { Prefix: 'shop/', ObjectSizeGreaterThan: 5 } } }))).toHaveLength(1);
    expect(harm(rule({ Expiration: { Date: new Date('2027-01-01') } }))).toEqual(['objects expire on 2027-01-01']);
    const moves = [
      { Days: 30, StorageClass: 'STANDARD_IA' as const },
      { Days: 90, StorageClass: 'DEEP_ARCHIVE' as const },
    ];
    expect(harm(rule({ Transitions: moves }))).toEqual(['to DEEP_ARCHIVE after 90 days']);
    expect(harm(rule(expire), '')).toHaveLength(1);
  });

  test('that do not apply to the prefix, are disabled, or need tags, do no harm', () => {
    const expire = { Expiration: { Days: 90 } };
    expect(harm(rule({ ...expire, Filter: { Prefix: 'shop-logs/' } }))).toEqual([]);
    expect(harm(rule({ ...expire, Status: 'Disabled' }))).toEqual([]);
    expect(harm(rule({ ...expire, Filter: { Tag: { Key: 'a', Value: 'b' } } }))).toEqual([]);
    expect(harm(rule({ ...expire, Filter: { And: { Tags: [{ Key: 'a', Value: 'b' }] } } }))).toEqual([]);
    expect(harm(rule({ NoncurrentVersionExpiration: { NoncurrentDays: 1 } }))).toEqual([]);
    expect(harm(rule({ Expiration: { ExpiredObjectDeleteMarker: true } }))).toEqual([]);
    expect(harm(rule({ Transitions: [{ Days: 1, StorageClass: 'GLACIER_IR' }] }))).toEqual([]);
  });
});

describe('setting up a bucket', () => {
  const bare: BucketLook = {
    exists: true,
    versioning: { value: false },
    lock: { value: { enabled: false } },
    publicAccessBlocked: { unsupported: true },
    rules: { value: [] },
  };
  const states = (look: BucketLook, request: Parameters<typeof wishOf>[0] = {}) =>
    Object.fromEntries(planSetup(look, wishOf(request), 'shop/').steps.map(({ name, state }) => [name, state]));

  test('lists the settings to change, and the unsupported ones', () => {
    const rest = { versioning: 'to do', 'public access': 'not here', lifecycle: 'to do' };
    expect(states(bare)).toEqual({ ...rest, lock: 'left' });
    expect(states(bare, { lock: 30 })).toEqual({ ...rest, lock: 'to do' });
    expect(states({ ...bare, exists: false })).toMatchObject({ bucket: 'to do' });
    expect(states({ ...bare, rules: { denied: true } })).toMatchObject({ lifecycle: 'failed' });
    const done: BucketLook = {
      ...bare,
      versioning: { value: true },
      lock: { value: { enabled: true, standard: { mode: 'GOVERNANCE', days: 30 } } },
      rules: { value: [ownRule('shop/', wishOf({ lock: 30 }).rule)] },
    };
    expect(states(done, { lock: 30 })).toEqual({
      ...{ versioning: 'as wanted', lock: 'as wanted', 'public access': 'not here', lifecycle: 'as wanted' },
    });
    expect(states(done, { lock: 30, lockMode: 'compliance' })).toMatchObject({ lock: 'to do' });
  });

  test('leaves settings of the whole bucket alone unless requested', () => {
    const shared = { ...bare, foreign: 'site/index.html', publicAccessBlocked: { value: false } };
    const left = { versioning: 'left', lock: 'left', 'public access': 'left', lifecycle: 'to do' };
    expect(states(shared, { lock: 30 })).toEqual(left);
    expect(states(shared, { lock: 30, wholeBucket: true })).toMatchObject({ versioning: 'to do', lock: 'to do' });
  });

  test('rejects contradictory settings', () => {
    expect(wishOf({ lock: 90 }).rule).toEqual({ removed: 90, uploads: 7 });
    expect(describeRule(ownRule('', wishOf({ archiveRemovedAfter: 5, deepArchive: true }).rule))).toContain(
      'removed versions to DEEP_ARCHIVE after 5 days, removed versions expire after 30 days',
    );
    for (const wrong of [
      { infrequentAfter: 29 },
      { lock: 90, keepRemoved: 30 },
      { archiveRemovedAfter: 30 },
      { deepArchive: true },
      { lockMode: 'compliance' as const },
    ]) {
      expect(() => wishOf(wrong), JSON.stringify(wrong)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    }
  });
});

test('the policy of the agent', () => {
  expect(agentPolicy({ bucket: 'acme', prefix: 'shop/' })).toEqual({
    Version: '2012-10-17',
    Statement: [
      {
        Sid: 'LifeboatBucket',
        Effect: 'Allow',
        Action: [
          's3:ListBucket',
          's3:ListBucketMultipartUploads',
          's3:GetLifecycleConfiguration',
          's3:GetBucketObjectLockConfiguration',
        ],
        Resource: 'arn:aws:s3:::acme',
      },
      {
        Sid: 'LifeboatObjects',
        Effect: 'Allow',
        Action: [
          's3:PutObject',
          's3:GetObject',
          's3:AbortMultipartUpload',
          's3:ListMultipartUploadParts',
          's3:DeleteObject',
        ],
        Resource: 'arn:aws:s3:::acme/shop/*',
      },
    ],
  });
  const strict = JSON.stringify(
    agentPolicy({ bucket: 'acme', prefix: '', appendOnly: true, lockDays: 30, principal: 'x' }),
  );
  // Leases hold no backup, and would pile up.
  const leases = '["s3:DeleteObject"],"Resource":"arn:aws:s3:::acme/*/leases/*"';
  expect(strict).toContain(leases);
  expect(strict.replace(leases, '')).not.toMatch(/s3:\w*(Delete|Bypass|Version)/);
  expect(strict).toContain('"NumericLessThanEquals":{"s3:object-lock-remaining-retention-days":"38"}');
  expect(strict.match(/"Principal":\{"AWS":\["x"\]\}/g)).toHaveLength(5);
  const more = { bucket: 'acme', prefix: 'shop/', acl: 'bucket-owner-full-control', kmsKey: 'arn:aws:kms:k' };
  expect(JSON.stringify(agentPolicy(more))).toMatch(/"s3:PutObjectAcl".*"kms:GenerateDataKey","kms:Decrypt"/);
  // A bucket policy cannot give rights to a key.
  expect(JSON.stringify(agentPolicy({ ...more, principal: 'x' }))).not.toContain('kms');
});

describe('the action that restores an object', () => {
  let ids = 0;
  const at = (time: number, over: Partial<Version> = {}): Version => ({
    ...{ key: 'shop/x', id: String(++ids), at: time, latest: false },
    content: { size: 1, etag: `e${time}`, storageClass: 'STANDARD' },
    ...over,
  });
  const marker = (time: number, latest = false): Version => ({ key: 'shop/x', id: String(++ids), at: time, latest });
  const now = { latest: true };
  const acts = (...versions: Version[]) => planUndelete(versions.toReversed(), 100).act;

  test('is none if the object has not changed', () => {
    expect(acts(at(50, now))).toBe('none');
    expect(acts(at(100, now))).toBe('none');
    expect(acts(marker(70, true), at(50))).toBe('none');
    expect(acts(marker(200, true), at(150), marker(70), at(50))).toBe('none');
    // It was restored earlier: another version with the same content.
    expect(acts(at(200, { ...now, content: at(50).content! }), at(150), at(50))).toBe('none');
  });

  test('removes the delete markers if it was only deleted', () => {
    const markers = [marker(300, true), marker(200)];
    const was = at(50);
    expect(planUndelete([was, ...markers], 100)).toEqual({ act: 'unmark', markers, was });
  });

  test('copies the version if it was overwritten', () => {
    const was = at(50);
    expect(planUndelete([at(150, now), was, at(40)], 100)).toEqual({ act: 'copy', was });
    expect(acts(marker(200, true), at(150), at(50))).toBe('copy');
    expect(acts(...Array.from({ length: 51 }, (_, i) => marker(200 + i, i === 50)), at(50))).toBe('copy');
  });

  test('hides the object if there was none', () => {
    expect(acts(at(150, now))).toBe('hide');
    expect(acts(at(150, now), marker(70), at(50))).toBe('hide');
  });

  test('prefers the version with content of two in the same second, unless the marker is current', () => {
    expect(acts(at(150, now), marker(70), at(70))).toBe('copy');
    expect(acts(marker(70, true), at(70))).toBe('none');
  });
});
