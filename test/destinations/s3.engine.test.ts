import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { createS3Destination } from '../../src/destinations/s3.ts';
import { destinationContract } from '../contract/destination.ts';
import { S3_KEY, type S3Server, startS3Server } from '../harness/s3-server.ts';

let server: S3Server;
let scratch: string;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'lifeboat-s3-'));
  server = await startS3Server();
});
afterAll(async () => {
  await server?.stop();
  rmSync(scratch, { recursive: true, force: true });
});

destinationContract('s3', async () => {
  const bucket = await server.bucket();
  const location = { bucket, prefix: 'base/', endpoint: server.endpoint, pathStyle: true };
  const destination = createS3Destination({ location, credentials: S3_KEY, uploads: join(scratch, bucket) });
  return { destination, cleanUp: async () => undefined };
});
