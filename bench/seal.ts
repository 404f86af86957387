import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Stack } from '../test/harness/stack.ts';
import { makeFiles } from './files.ts';
import { type Budget, lifeboatProcess, programNamed, Results, report, shell } from './measure.ts';
import { stackOver, withPlace } from './sealed.ts';
import { type BenchOptions, clearRepository, expectOk } from './stack.ts';

const CLEAR = 'lifeboat, not encrypted';
const AGE = 'lifeboat, age';
const GPG = 'lifeboat, gpg passphrase';
const RESTIC = 'restic';
const BY_HAND = 'tar \\| zstd \\| age';

const BUDGETS: Budget[] = [
  { contender: AGE, rival: RESTIC, most: 1 },
  { contender: AGE, mostMiB: 250 },
];

/** A first backup of a media tree to a local disk, with and without encryption. */
export async function benchSeal({ rounds, small, image }: BenchOptions): Promise<string> {
  return withPlace(async (place) => {
    const { directory, media, recipient } = place;
    const count = small ? 2_000 : 20_000;
    process.stderr.write('making files\n');
    const bytes = makeFiles(media, count);
    const stacks: Record<string, Stack> = {};
    try {
      stacks[CLEAR] = await stackOver(place, image, {});
      stacks[AGE] = await stackOver(place, image, { LIFEBOAT_AGE_RECIPIENTS: recipient });
      stacks[GPG] = await stackOver(place, image, { LIFEBOAT_GPG_PASSPHRASE: 'benchmark-passphrase' });
      const repository = path.join(directory, 'restic');
      const restic = `restic --quiet --no-cache --repo ${repository} --password-file ${directory}/password`;
      const archive = path.join(directory, 'media.tar.zst.age');
      const results = new Results();
      for (let round = 1; round <= rounds; round++) {
        process.stderr.write(`round ${round} of ${rounds}, ${count} files, ${(bytes / 1e9).toFixed(2)} GB\n`);
        await results.run(BY_HAND, () =>
          shell(`tar -C ${media} -cf - . | zstd -q -T0 -c | age -r ${recipient} > ${archive}`),
        );
        await rm(archive);
        await mkdir(repository);
        await shell(`${restic} init`);
        await results.run(RESTIC, () => shell(`${restic} backup ${media}`), programNamed('restic'));
        // The stored data of one is removed before the next begins. Otherwise, a later one would find less memory free.
        await rm(repository, { recursive: true });
        for (const [name, stack] of Object.entries(stacks)) {
          await results.run(name, () => expectOk(stack.lifeboat('backup', 'web.media')), lifeboatProcess);
          await clearRepository(stack);
        }
      }
      return `${count} files, ${(bytes / 1e9).toFixed(2)} GB.\n\n${report(results, BUDGETS)}`;
    } finally {
      for (const stack of Object.values(stacks)) await stack.destroy();
    }
  });
}
