import { mkdir, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { S3_KEY, type S3Server, startS3Server } from '../test/harness/s3-server.ts';
import type { Stack } from '../test/harness/stack.ts';
import { makeFiles } from './files.ts';
import { type Budget, lifeboatProcess, Results, report, shell } from './measure.ts';
import { type Place, stackOver, withPlace } from './sealed.ts';
import { type BenchOptions, expectOk } from './stack.ts';

const CLEAR = 'lifeboat, not encrypted';
const AGE = 'lifeboat, age';
const BY_HAND = 'tar \\| zstd \\| age \\| rclone rcat';
const LARGE = 'lifeboat, age, one file of 10 GB (sparse)';

const BUDGETS: Budget[] = [
  { contender: AGE, mostMiB: 250 },
  { contender: LARGE, mostMiB: 250 },
];

/**
 * A first backup of a media tree to a real S3 server, against what runbooks pipe into an upload; memory for a large
 * file.
 */
export async function benchS3({ rounds, small, image }: BenchOptions): Promise<string> {
  const server = await startS3Server({ bytes: 8 * 1024 ** 3 });
  try {
    return await withPlace(async (place) => {
      const count = small ? 2_000 : 20_000;
      process.stderr.write('making files\n');
      const bytes = makeFiles(place.media, count);
      const results = new Results();
      for (let round = 1; round <= rounds; round++) {
        process.stderr.write(`round ${round} of ${rounds}, ${count} files, ${(bytes / 1e9).toFixed(2)} GB\n`);
        await byHand(place, server, results);
        const first = { place, server, results, image };
        await backup(first, CLEAR, {});
        await backup(first, AGE, { LIFEBOAT_AGE_RECIPIENTS: place.recipient });
      }
      const sparse = { ...place, media: path.join(place.directory, 'sparse') };
      await mkdir(sparse.media);
      await writeFile(path.join(sparse.media, 'large'), '');
      await truncate(path.join(sparse.media, 'large'), small ? 1e9 : 10e9);
      await backup({ place: sparse, server, results, image }, LARGE, { LIFEBOAT_AGE_RECIPIENTS: place.recipient });
      const compared = [CLEAR, AGE].map((name) => `${name}: ${results.ratio(name, BY_HAND).toFixed(2)} of ${BY_HAND}`);
      const what = `${count} files, ${(bytes / 1e9).toFixed(2)} GB, an S3 server on the same machine.`;
      return [what, report(results, BUDGETS), ...compared].join('\n\n');
    });
  } finally {
    await server.stop();
  }
}

/** Into a bucket of its own, so that each backup is a first one. */
async function backup(
  { place, server, results, image }: { place: Place; server: S3Server; results: Results; image: string },
  name: string,
  env: Record<string, string>,
): Promise<void> {
  const bucket = await server.bucket();
  const stack: Stack = await stackOver(place, image, {
    ...env,
    LIFEBOAT_DESTINATION: `s3://${bucket}/base?endpoint=http://${server.container}:7480`,
    AWS_ACCESS_KEY_ID: S3_KEY.accessKeyId,
    AWS_SECRET_ACCESS_KEY: S3_KEY.secretAccessKey,
  });
  try {
    await shell(`docker network connect ${stack.project}_default ${server.container}`);
    await results.run(name, () => expectOk(stack.lifeboat('backup', 'web.media')), lifeboatProcess);
  } finally {
    await shell(`docker network disconnect --force ${stack.project}_default ${server.container}`);
    await stack.destroy();
    await clear(server, bucket);
  }
}

async function byHand({ media, recipient }: Place, server: S3Server, results: Results): Promise<void> {
  const bucket = await server.bucket();
  const remote = `:s3,provider=Ceph,endpoint='${server.endpoint}',access_key_id=${S3_KEY.accessKeyId},secret_access_key=${S3_KEY.secretAccessKey}:`;
  await results.run(BY_HAND, () =>
    shell(
      `tar -C ${media} -cf - . | zstd -q -T0 -c | age -r ${recipient} | env -u AWS_CA_BUNDLE rclone --config /dev/null rcat "${remote}${bucket}/media.tar.zst.age"`,
    ),
  );
  await clear(server, bucket);
}

/** The server keeps the memory of what was deleted until it has collected it. */
async function clear(server: S3Server, bucket: string): Promise<void> {
  await server.empty(bucket);
  await shell(`docker exec ${server.container} radosgw-admin gc process --include-all`);
}
