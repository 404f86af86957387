import { createHash, randomBytes } from 'node:crypto';
import type { PublicAccessBlockConfiguration } from '@aws-sdk/client-s3';
import type { S3Connection } from './client.ts';
import { statusOf } from './retry.ts';

const ALL_BLOCKED = {
  BlockPublicAcls: true,
  IgnorePublicAcls: true,
  BlockPublicPolicy: true,
  RestrictPublicBuckets: true,
};

/** Returns true if nothing in the bucket can be made public. */
export function isBlocked(is: PublicAccessBlockConfiguration = {}): boolean {
  return Object.keys(ALL_BLOCKED).every((name) => is[name as keyof typeof ALL_BLOCKED] === true);
}

/**
 * Blocks public access to the bucket. Ceph 18 then regards every object as public, and refuses it. So this stores an
 * object before and after, and removes the block if only the second one is refused. Resolves to the reason if the block
 * was removed.
 */
export async function blockPublicAccess(s3: S3Connection): Promise<string | undefined> {
  const before = await current(s3);
  const could = await canStore(s3);
  await set(s3, ALL_BLOCKED);
  if (!could || (await canStore(s3))) return undefined;
  if (before) await set(s3, before);
  else {
    await s3.send((sdk, client, options) =>
      client.send(new sdk.DeletePublicAccessBlockCommand({ Bucket: s3.bucket }), options),
    );
  }
  return 'with the block, this server refuses to store anything; the block was removed';
}

async function set(s3: S3Connection, PublicAccessBlockConfiguration: PublicAccessBlockConfiguration): Promise<void> {
  const request = { Bucket: s3.bucket, PublicAccessBlockConfiguration };
  await s3.send((sdk, client, options) => client.send(new sdk.PutPublicAccessBlockCommand(request), options));
}

async function current(s3: S3Connection): Promise<PublicAccessBlockConfiguration | undefined> {
  try {
    const answer = await s3.send((sdk, client, options) =>
      client.send(new sdk.GetPublicAccessBlockCommand({ Bucket: s3.bucket }), options),
    );
    return answer.PublicAccessBlockConfiguration;
  } catch (error) {
    if (statusOf(error) === 404) return undefined;
    throw error;
  }
}

/**
 * Stores an object below the prefix, as Lifeboat would, and deletes it again. Returns false if the server refuses it.
 */
async function canStore(s3: S3Connection): Promise<boolean> {
  const target = { Bucket: s3.bucket, Key: `${s3.prefix}setup-${randomBytes(8).toString('hex')}` };
  const ContentMD5 = createHash('md5').update('').digest('base64');
  try {
    await s3.send((sdk, client, options) =>
      client.send(new sdk.PutObjectCommand({ ...target, Body: Buffer.alloc(0), ContentMD5 }), options),
    );
  } catch (error) {
    if (statusOf(error) === 403) return false;
    throw error;
  }
  await s3.send((sdk, client, options) => client.send(new sdk.DeleteObjectCommand(target), options));
  return true;
}
