import { randomUUID } from 'node:crypto';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import type { Destination } from '../../destinations/destination.ts';
import { until } from '../../destinations/until.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { decodeRepositoryInfo, encodeRepositoryInfo, FORMAT, type RepositoryInfo } from '../objects/manifest.ts';
import { readDocument, streamOf } from '../objects/objects.ts';
import type { SeenChain } from './seen-chain.ts';

/** Where a repository says what it is. */
export const INFO_KEY = 'lifeboat.json';

/** How a repository is opened. */
export interface RepositoryOptions {
  project: string;
  /** an empty destination becomes one */
  create: boolean;
  keys: SealKeys;
  /** the first signs, all of them verify; with none, signatures are not looked at */
  signingKeys?: readonly string[];
  /** it must be that same repository, and becomes it where it is empty */
  copyOf?: RepositoryInfo;
  /** what the agent remembers of the repository that it backs up to: nothing else is opened, and none is made in its place */
  known?: KnownRepository;
  /** reads which snapshots the agent has seen there; absent: nothing is compared with it */
  seen?: () => Promise<SeenChain | undefined>;
  /** ends the opening */
  signal?: AbortSignal;
}

/** What an agent remembers of its repository. */
export interface KnownRepository {
  /** absent: something was stored by a version that did not remember where */
  info?: RepositoryInfo;
  /** the destination that had it last */
  name?: string;
}

/** What a destination says of the repository in it; with `create` an empty one becomes one. Throws like openRepository. */
export async function readOrCreateInfo(
  at: Destination,
  { create, copyOf, known, signal }: Pick<RepositoryOptions, 'create' | 'copyOf' | 'known' | 'signal'>,
): Promise<RepositoryInfo> {
  const destination = signal ? until(at, signal) : at;
  const found = await readInfo(destination).catch((error: unknown) => {
    throw known?.info && hasCode(error, 'OBJECT_DAMAGED') ? canBeMended(error) : error;
  });
  if (found && copyOf && found.id !== copyOf.id) throw otherRepository(destination);
  if (found && known?.info && found.id !== known.info.id) throw notTheKnown(destination, found, known.info);
  if (found) return found;
  await refuseOtherThings(destination, known, copyOf);
  if (known) throw emptied(destination, known);
  if (!create && copyOf) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} holds nothing, and so no copy`, {
      hint: `Is it mounted, and the right one? If it is to be filled anew: \`lifeboat accept ${destination.name}\`, and the next run does.`,
    });
  }
  if (!create) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} is empty, not a Lifeboat repository`, {
      hint: 'Check that the right directory is mounted; the first backup makes a repository in it.',
    });
  }
  return createInfo(destination, copyOf);
}

/** Reads again what a destination says of the repository in it. Throws DEST_FOREIGN unless it is the one that was opened. */
export async function expectInfo(destination: Destination, info: RepositoryInfo): Promise<void> {
  const found = await readInfo(destination);
  if (found?.id === info.id) return;
  if (found) throw notTheKnown(destination, found, info);
  throw new LifeboatError('DEST_FOREIGN', `${destination.name} does not hold repository ${shortId(info)} any more`, {
    hint: 'It was emptied or unmounted in the middle of the run: mount it, restart Lifeboat, and run it again.',
  });
}

/** What became of a destination that a person accepted as it is. */
export type Acceptance =
  /** it holds a repository */
  | 'found'
  /** it was empty and holds a new repository now */
  | 'created'
  /** it held the snapshots of `project`, and has its lifeboat.json again */
  | 'mended';

/**
 * Takes a destination as it is now: the repository in it, a new one where it is empty, or the one that is known where only
 * lifeboat.json is missing or damaged.
 *
 * @throws DEST_FOREIGN for other things; FORMAT_UNSUPPORTED; OBJECT_DAMAGED; what the destination throws: then nothing is accepted
 */
export async function acceptInfo(
  destination: Destination,
  { project, known }: { project: string; known: KnownRepository | undefined },
): Promise<{ info: RepositoryInfo; how: Acceptance }> {
  const lost = known?.info;
  let broken: LifeboatError | undefined;
  const found = await readInfo(destination).catch((error: unknown) => {
    if (!lost || !hasCode(error, 'OBJECT_DAMAGED')) throw error;
    broken = error;
    return undefined;
  });
  if (found) return { info: found, how: 'found' };
  if (lost && (await hasSnapshots(destination, project))) {
    if (broken) await destination.delete(INFO_KEY);
    return { info: await createInfo(destination, lost), how: 'mended' };
  }
  // Without snapshots of the project, nothing shows that it was this repository.
  if (broken) throw broken;
  await refuseOtherThings(destination, undefined, undefined);
  return { info: await createInfo(destination), how: 'created' };
}

async function hasSnapshots(destination: Destination, project: string): Promise<boolean> {
  for await (const { key } of destination.list(`${project}/snapshots/`))
    if (key.endsWith('/manifest.json')) return true;
  return false;
}

function canBeMended(error: LifeboatError): LifeboatError {
  return new LifeboatError(error.code, error.message, {
    cause: error.cause,
    hint: 'Check the disk. If these are your backups, `lifeboat accept destination` writes lifeboat.json again.',
  });
}

const COPY_WITHOUT_INFO =
  'Give the copy an empty directory or prefix of its own. If this is the copy and it has lost its lifeboat.json, put the lifeboat.json of the destination there.';

async function refuseOtherThings(
  destination: Destination,
  known: KnownRepository | undefined,
  copyOf: RepositoryInfo | undefined,
): Promise<void> {
  for await (const { key } of destination.list('')) {
    if (known?.info) {
      throw new LifeboatError(
        'DEST_FOREIGN',
        `${destination.name} has no lifeboat.json, but other things, such as ${key}`,
        {
          hint: 'If these are your backups, `lifeboat accept destination` puts lifeboat.json back. If they are not, mount the right directory, or correct LIFEBOAT_DESTINATION.',
        },
      );
    }
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} holds other things, such as ${key}`, {
      hint: copyOf ? COPY_WITHOUT_INFO : 'Give Lifeboat an empty directory or prefix of its own.',
    });
  }
}

async function createInfo(destination: Destination, copyOf?: RepositoryInfo): Promise<RepositoryInfo> {
  const info = copyOf ?? ({ format: FORMAT, id: randomUUID(), created: new Date().toISOString() } as const);
  try {
    await destination.put(INFO_KEY, streamOf(encodeRepositoryInfo(info)));
    return info;
  } catch (error) {
    // Somebody else was quicker: theirs counts.
    const other = hasCode(error, 'DEST_EXISTS') ? await readInfo(destination) : undefined;
    if (other && copyOf && other.id !== copyOf.id) throw otherRepository(destination);
    if (other) return other;
    if (!hasCode(error, 'DEST_EXISTS')) throw error;
    throw new LifeboatError('DEST_EXISTS', `${INFO_KEY} at ${destination.name} is a directory or a link, not a file`, {
      cause: error,
      hint: 'Move it away, then run the command again.',
    });
  }
}

function emptied({ name }: Destination, known: KnownRepository): LifeboatError {
  const which = known.info ? `repository ${shortId(known.info)}` : 'a repository';
  const before = known.name !== undefined && known.name !== name ? `, which was at ${known.name}` : '';
  return new LifeboatError('DEST_FOREIGN', `${name} is empty, and should hold ${which}${before}`, {
    hint: 'Is the disk mounted, and LIFEBOAT_DESTINATION right? Mount it and restart Lifeboat. If it is empty on purpose, `lifeboat accept destination` begins a new repository there; `lifeboat copy --from` brings one back from a copy.',
  });
}

function notTheKnown({ name }: Destination, found: RepositoryInfo, known: RepositoryInfo): LifeboatError {
  return new LifeboatError('DEST_FOREIGN', `${name} holds repository ${shortId(found)} instead of ${shortId(known)}`, {
    hint: 'Is the right disk mounted, and LIFEBOAT_DESTINATION right? If this repository is to be used from now on: `lifeboat accept destination`. To only read from it, name it with --from.',
  });
}

/** Enough of an id for people to tell one from another. */
export function shortId({ id }: RepositoryInfo): string {
  return id.slice(0, 8);
}

function otherRepository({ name }: Destination): LifeboatError {
  return new LifeboatError('DEST_FOREIGN', `${name} belongs to another repository`, {
    hint: 'Give the copy an empty directory or prefix of its own. If the destination is new and that copy is all that is left of the old one: empty the destination, then `lifeboat copy --from` brings it back.',
  });
}

/** What a destination says of the repository in it; undefined where it says nothing. Throws OBJECT_DAMAGED, FORMAT_UNSUPPORTED. */
export async function readInfo(destination: Destination): Promise<RepositoryInfo | undefined> {
  try {
    return decodeRepositoryInfo(await readDocument(destination, INFO_KEY));
  } catch (error) {
    if (hasCode(error, 'OBJECT_MISSING')) return undefined;
    throw error;
  }
}
