import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { holder, Stack } from '../test/harness/stack.ts';
import { changeFiles, makeFiles } from './files.ts';
import { type Budget, lifeboatProcess, programNamed, Results, report, shell } from './measure.ts';
import { type BenchOptions, clearRepository, expectOk } from './stack.ts';

const IN_PLACE = 'lifeboat, read in place';
const BY_HELPER = 'lifeboat, read by a helper';
const RESTIC = 'restic';
const TAR = 'tar \\| zstd -T0';
const FIRST = 'first';
const UNCHANGED = 'unchanged';
const CHANGED = '1 % changed';

const BUDGETS: Budget[] = [IN_PLACE, BY_HELPER].flatMap((ours) => [
  { contender: `${ours}: ${FIRST}`, rival: `${RESTIC}: ${FIRST}`, most: 1 },
  { contender: `${ours}: ${UNCHANGED}`, rival: `${RESTIC}: ${UNCHANGED}`, most: 1 },
  { contender: `${ours}: ${FIRST}`, mostMiB: 250 },
]);

/** A tree, and those who store it. */
interface Arena {
  media: string;
  count: number;
  /** the agent of the first has the tree mounted, the one of the second has not */
  stacks: Record<string, Stack>;
  /** directory of restic's repository, and what it is called with */
  repository: string;
  restic: string;
}

/** A first, an unchanged and a slightly changed backup of 20,000 files that do not compress. */
export async function benchVolume({ rounds, small, image }: BenchOptions): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-bench-'));
  const media = path.join(directory, 'media');
  const count = small ? 2_000 : 20_000;
  const stacks: Record<string, Stack> = {};
  try {
    process.stderr.write('making files\n');
    const bytes = makeFiles(media, count);
    const services = { web: holder([`${media}:/media`], { 'lifeboat.volumes': '/media' }) };
    const shared = { services, receiver: false, image };
    stacks[IN_PLACE] = await Stack.start({ ...shared, agent: { volumes: [`${media}:/seen:ro`] } });
    stacks[BY_HELPER] = await Stack.start(shared);
    await writeFile(path.join(directory, 'password'), 'benchmark');
    const repository = path.join(directory, 'restic');
    const cache = path.join(directory, 'cache');
    const restic = `restic --quiet --cache-dir ${cache} --repo ${repository} --password-file ${directory}/password`;
    const arena: Arena = { media, count, stacks, repository, restic };
    const results = new Results();
    for (let round = 1; round <= rounds; round++) {
      process.stderr.write(`round ${round} of ${rounds}, ${count} files, ${(bytes / 1e9).toFixed(2)} GB\n`);
      await oneRound(arena, results, round, path.join(directory, 'media.tar.zst'));
    }
    return `${count} files, ${(bytes / 1e9).toFixed(2)} GB.\n\n${report(results, BUDGETS)}`;
  } finally {
    for (const stack of Object.values(stacks)) await stack.destroy();
    await rm(directory, { recursive: true, force: true });
  }
}

async function oneRound(arena: Arena, results: Results, round: number, archive: string): Promise<void> {
  const { media, count, stacks, repository, restic } = arena;
  const resticBackup = (what: string) =>
    results.run(`${RESTIC}: ${what}`, () => shell(`${restic} backup ${media}`), programNamed('restic'));
  const ours = async (what: string) => {
    for (const [name, stack] of Object.entries(stacks)) {
      await results.run(`${name}: ${what}`, () => expectOk(stack.lifeboat('backup', 'web.media')), lifeboatProcess);
    }
  };

  await results.run(TAR, () => shell(`tar -C ${media} -cf - . | zstd -q -T0 -c > ${archive}`));
  await rm(archive);
  await mkdir(repository);
  await shell(`${restic} init`);
  await resticBackup(FIRST);
  await ours(FIRST);

  await resticBackup(UNCHANGED);
  await ours(UNCHANGED);
  changeFiles(media, count, round);
  await resticBackup(CHANGED);
  await ours(CHANGED);
  // The next round finds as much memory free as this one did.
  await rm(repository, { recursive: true });
  for (const stack of Object.values(stacks)) await clearRepository(stack);
}
