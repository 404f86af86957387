import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { ok, sh } from './stack.ts';

/** The key of the test server's only user. The secret part is a canary: it must never appear in any output. */
export const S3_KEY = { accessKeyId: 'canary-s3-id', secretAccessKey: 'canary-s3-secret-4711' };

/** A real S3 server in its own container, on the default bridge, reachable from the host and from other containers. */
export interface S3Server {
  /** name of the container */
  container: string;
  /** http://address:7480 */
  endpoint: string;
  client: S3Client;
  /** creates a bucket with a unique name */
  bucket(): Promise<string>;
  keys(bucket: string, prefix?: string): Promise<string[]>;
  /** removes every object */
  empty(bucket: string): Promise<void>;
  /** the keys of incomplete uploads in parts */
  uploads(bucket: string): Promise<string[]>;
  /** creates another user, who has no rights yet in the buckets of the first */
  user(): Promise<{ arn: string; key: typeof S3_KEY }>;
  /** begins an upload and sends one part, as somebody else might; returns its id */
  foreignUpload(bucket: string, key: string): Promise<string>;
  stop(): Promise<void>;
}

/** `bytes`: its capacity, in memory; default 4 GiB */
export async function startS3Server({ bytes }: { bytes?: number } = {}): Promise<S3Server> {
  const container = `lbt-s3-${randomBytes(4).toString('hex')}`;
  const env = [`S3_ACCESS_KEY=${S3_KEY.accessKeyId}`, `S3_SECRET_KEY=${S3_KEY.secretAccessKey}`];
  if (bytes !== undefined) env.push(`S3_BYTES=${bytes}`);
  await ok('docker', [
    'run',
    '--detach',
    '--name',
    container,
    ...env.flatMap((e) => ['--env', e]),
    'lifeboat-test/rgw',
  ]);
  const stop = async () => void (await sh('docker', ['rm', '--force', '--volumes', container]));
  try {
    const address = await ok('docker', ['inspect', '--format', '{{.NetworkSettings.IPAddress}}', container]);
    const endpoint = `http://${address.trim()}:7480`;
    await answers(endpoint);
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials: S3_KEY });
    return { container, endpoint, client, ...callsOf(client), user: () => makeUser(container), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function makeUser(container: string): ReturnType<S3Server['user']> {
  const name = `user${randomBytes(4).toString('hex')}`;
  const key = { accessKeyId: name, secretAccessKey: `canary-${randomBytes(8).toString('hex')}` };
  const keys = ['--access-key', key.accessKeyId, '--secret-key', key.secretAccessKey];
  const create = ['radosgw-admin', 'user', 'create', '--uid', name, '--display-name', name, ...keys];
  await ok('docker', ['exec', container, ...create]);
  return { arn: `arn:aws:iam:::user/${name}`, key };
}

async function answers(endpoint: string): Promise<void> {
  const end = performance.now() + 240_000;
  for (;;) {
    // Packets to an address that does not exist yet are silently lost.
    const answer = await fetch(endpoint, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    if (answer?.ok) return;
    if (performance.now() > end) throw new Error(`the S3 server does not answer at ${endpoint}`);
    await sleep(100);
  }
}

function callsOf(client: S3Client): Pick<S3Server, 'bucket' | 'keys' | 'empty' | 'uploads' | 'foreignUpload'> {
  return {
    async bucket() {
      const Bucket = `test-${randomBytes(5).toString('hex')}`;
      await client.send(new CreateBucketCommand({ Bucket }));
      return Bucket;
    },
    async keys(Bucket, Prefix = '') {
      const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket, Prefix }));
      return Contents.map(({ Key = '' }) => Key);
    },
    async empty(Bucket) {
      for (;;) {
        const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket }));
        if (Contents.length === 0) return;
        await client.send(
          new DeleteObjectsCommand({ Bucket, Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } }),
        );
      }
    },
    async uploads(Bucket) {
      const { Uploads = [] } = await client.send(new ListMultipartUploadsCommand({ Bucket }));
      return Uploads.map(({ Key = '' }) => Key);
    },
    async foreignUpload(Bucket, Key) {
      const { UploadId = '' } = await client.send(new CreateMultipartUploadCommand({ Bucket, Key }));
      await client.send(new UploadPartCommand({ Bucket, Key, UploadId, PartNumber: 1, Body: randomBytes(5_300_000) }));
      return UploadId;
    },
  };
}
