import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { CreateBucketCommand, GetObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { compose, docker, PROJECT } from './project.ts';

/** The off-site variant: a bucket on a real S3 server, and an age key that only its owner has. */

/** The name by which Lifeboat knows the copy: its location without the options. */
export const COPY = 's3://off-site/shop';
const BUCKET = 'off-site';
/** The first bytes of a file encrypted with age. */
const AGE = 'age-encryption.org/v1';
const LIMIT_MS = 60_000;

/** Makes a new age key. The identity is in a file. The recipient goes into the settings. */
export interface Key {
  file: string;
  recipient: string;
  remove(): Promise<void>;
}

export async function makeKey(): Promise<Key> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-demo-'));
  const file = path.join(directory, 'age-identity.txt');
  await promisify(execFile)('age-keygen', ['-o', file]);
  const recipient = /public key: (age1\w+)/.exec(await readFile(file, 'utf8'))?.[1];
  if (!recipient) throw new Error('age-keygen made no key');
  return { file, recipient, remove: () => rm(directory, { recursive: true, force: true }) };
}

/** Starts the server and creates the bucket. */
export async function startBucket(signal: AbortSignal): Promise<S3Client> {
  await compose(['up', '--detach', 's3'], { signal });
  const address = (await compose(['port', 's3', '7480'], { signal })).trim();
  const client = new S3Client({
    endpoint: `http://${address}`,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: 'only-for-the-demo-id', secretAccessKey: 'only-for-the-demo' },
  });
  for (const end = Date.now() + LIMIT_MS; ; ) {
    try {
      await client.send(new CreateBucketCommand({ Bucket: BUCKET }), { abortSignal: signal });
      return client;
    } catch (error) {
      if (signal.aborted || Date.now() > end) throw error;
      await sleep(500, undefined, { signal });
    }
  }
}

/** Returns the number of encrypted objects in the bucket, and the names of the others. */
export async function lookInside(client: S3Client): Promise<{ encrypted: number; clear: string[] }> {
  const { Contents = [] } = await client.send(new ListObjectsV2Command({ Bucket: BUCKET }));
  const found = { encrypted: 0, clear: [] as string[] };
  for (const { Key = '' } of Contents) {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: BUCKET, Key }));
    const bytes = Buffer.from((await Body?.transformToByteArray()) ?? []);
    if (bytes.subarray(0, AGE.length).toString('latin1') === AGE) found.encrypted += 1;
    else
      found.clear.push(
        Key.split('/')
          .slice(1)
          .join('/')
          .replace(/^lifeboat-demo\//, ''),
      );
  }
  return found;
}

/** Removes everything that a lost host takes with it: Lifeboat, its memory, and the backups on the disk. */
export async function loseHost(signal: AbortSignal): Promise<void> {
  await compose(['rm', '--stop', '--force', 'lifeboat'], { signal });
  for (const name of ['backups', 'spool']) {
    const { status, output } = await docker(['volume', 'rm', `${PROJECT}_${name}`], { signal });
    if (status !== 0) throw new Error(output);
  }
}
