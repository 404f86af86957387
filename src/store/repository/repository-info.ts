import { randomUUID } from 'node:crypto';
import { hasCode, LifeboatError } from '../../base/errors.ts';
import { type Destination, type HintByKind, hintFor, UNDELETE_HINT } from '../../destinations/destination.ts';
import { until } from '../../destinations/until.ts';
import type { SealKeys } from '../../plan/seal-keys.ts';
import { shellWord } from '../../report/restore-command.ts';
import { decodeRepositoryInfo, encodeRepositoryInfo, FORMAT, type RepositoryInfo } from '../objects/manifest.ts';
import { readDocument, streamOf } from '../objects/objects.ts';
import type { ManifestCache, PackListCache } from './repository.ts';
import type { SeenChain } from './seen-chain.ts';

/** The key of the object that identifies a repository. */
export const INFO_KEY = 'lifeboat.json';

/** Options of opening a repository. */
export interface RepositoryOptions {
  project: string;
  /** creates a repository in an empty destination */
  create: boolean;
  keys: SealKeys;
  /** the first key signs, all of them verify; with none, signatures are not verified */
  signingKeys?: readonly string[];
  /** the destination must hold a copy of this repository; with `create`, an empty destination becomes one */
  copyOf?: RepositoryInfo;
  /**
   * the repository that the agent backs up to, as it remembers it: no other one is opened, and none is created in its
   * place
   */
  known?: KnownRepository;
  /** reads which snapshots the agent has seen there; absent: the list is not compared with them */
  seen?: () => Promise<SeenChain | undefined>;
  /** manifests that were read before; absent: each one is fetched */
  manifests?: ManifestCache;
  /** lists of packs that were read before; absent: each one is fetched */
  lists?: PackListCache;
  /** aborts opening the repository */
  signal?: AbortSignal;
}

/** An agent's memory of its repository. */
export interface KnownRepository {
  /** absent: a version of Lifeboat that did not record the repository has stored backups */
  info?: RepositoryInfo;
  /** the last destination that held it */
  name?: string;
}

/**
 * Reads a destination's repository info. With `create`, an empty destination becomes a repository. Throws like
 * openRepository.
 */
export async function readOrCreateInfo(
  at: Destination,
  options: Pick<RepositoryOptions, 'create' | 'copyOf' | 'known' | 'signal'>,
): Promise<RepositoryInfo> {
  const { create, copyOf, known, signal } = options;
  const destination = signal ? until(at, signal) : at;
  const found = await readInfo(destination).catch((error: unknown) => {
    throw known?.info && hasCode(error, 'OBJECT_DAMAGED') ? withAcceptHint(destination, error) : error;
  });
  if (found && copyOf && found.id !== copyOf.id) throw otherRepository(destination);
  if (found && known?.info && found.id !== known.info.id) throw notTheKnown(destination, found, known.info);
  if (found) return found;
  try {
    await refuseOtherThings(destination, known, copyOf);
  } catch (error) {
    // Another agent has created the repository since.
    if (hasCode(error, 'DEST_FOREIGN') && (await readInfo(destination))) return readOrCreateInfo(at, options);
    throw error;
  }
  if (known) throw emptied(destination, known);
  if (!create && copyOf) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} is empty, so it holds no copy`, {
      hint: `${hintFor(destination, RIGHT_PLACE)} If it is empty on purpose, run \`lifeboat accept ${shellWord(destination.name)}\`: the next run copies everything.`,
    });
  }
  if (!create) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} is empty, not a Lifeboat repository`, {
      hint: `${hintFor(destination, RIGHT_EMPTY_PLACE)} The first backup creates a repository in it.`,
    });
  }
  return createInfo(destination, copyOf);
}

/**
 * Reads a destination's repository info again. Throws DEST_FOREIGN unless it is still the repository that was opened.
 */
export async function expectInfo(destination: Destination, info: RepositoryInfo): Promise<void> {
  const found = await readInfo(destination);
  if (found?.id === info.id) return;
  if (found) throw notTheKnown(destination, found, info);
  throw new LifeboatError('DEST_FOREIGN', `${destination.name} does not hold repository ${shortId(info)} any more`, {
    hint: hintFor(destination, {
      directory: 'It was emptied or unmounted during the run. Mount it, restart Lifeboat, and run the command again.',
      bucket: `Somebody emptied it during the run. ${UNDELETE_HINT}`,
    }),
  });
}

/** The result of accepting a destination. */
export type Acceptance =
  /** it holds a repository */
  | 'found'
  /** it was empty and now holds a new repository */
  | 'created'
  /** it held the snapshots of `project`, and its lifeboat.json was written again */
  | 'mended';

/**
 * Accepts a destination in its present state: the repository in it, a new one if it is empty, or the known one if only
 * lifeboat.json is missing or damaged. Accepts nothing if it throws.
 *
 * @throws DEST_FOREIGN if it holds other things; FORMAT_UNSUPPORTED; OBJECT_DAMAGED; what the destination throws
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
  // Without snapshots of the project, nothing proves that it was this repository.
  if (broken) throw broken;
  await refuseOtherThings(destination, undefined, undefined);
  return { info: await createInfo(destination), how: 'created' };
}

async function hasSnapshots(destination: Destination, project: string): Promise<boolean> {
  for await (const { key } of destination.list(`${project}/snapshots/`))
    if (key.endsWith('/manifest.json')) return true;
  return false;
}

function withAcceptHint(destination: Destination, error: LifeboatError): LifeboatError {
  const first = hintFor(destination, { directory: 'Check the disk.', bucket: UNDELETE_HINT });
  return new LifeboatError(error.code, error.message, {
    cause: error.cause,
    hint: `${first} If these are your backups, \`lifeboat accept destination\` writes lifeboat.json again.`,
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
        `${destination.name} has no lifeboat.json but holds other things, such as ${key}`,
        {
          hint: `If these are your backups, \`lifeboat accept destination\` writes lifeboat.json again. If they are not, ${hintFor(
            destination,
            {
              directory: 'mount the right directory or correct LIFEBOAT_DESTINATION.',
              bucket: 'correct LIFEBOAT_DESTINATION.',
            },
          )}`,
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
    // Another agent was faster: its repository counts.
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

const RIGHT_PLACE: HintByKind = {
  directory: 'If its disk is not mounted, mount it, then run `docker compose restart lifeboat`.',
  bucket: `Check its bucket, prefix and endpoint. ${UNDELETE_HINT}`,
};

const RIGHT_EMPTY_PLACE: HintByKind = {
  directory: 'Check that the right directory is mounted.',
  bucket: 'Check its bucket, prefix and endpoint.',
};

const RIGHT_DESTINATION: HintByKind = {
  directory: 'Check that the right disk is mounted and LIFEBOAT_DESTINATION is right.',
  bucket: 'Check the bucket, prefix and endpoint in LIFEBOAT_DESTINATION.',
};

const EMPTIED: HintByKind = {
  directory: 'Check LIFEBOAT_DESTINATION, mount the disk and restart Lifeboat.',
  bucket: `Check LIFEBOAT_DESTINATION and its endpoint. ${UNDELETE_HINT}`,
};

function emptied({ name }: Destination, known: KnownRepository): LifeboatError {
  const which = known.info ? `repository ${shortId(known.info)}` : 'a repository';
  const before = known.name !== undefined && known.name !== name ? `, which was at ${known.name}` : '';
  return new LifeboatError('DEST_FOREIGN', `${name} is empty but should hold ${which}${before}`, {
    hint: `${hintFor({ name }, EMPTIED)} If the destination is empty on purpose, \`lifeboat accept destination\` creates a new repository there; \`lifeboat copy --from\` restores one from a copy.`,
  });
}

function notTheKnown({ name }: Destination, found: RepositoryInfo, known: RepositoryInfo): LifeboatError {
  return new LifeboatError('DEST_FOREIGN', `${name} holds repository ${shortId(found)} instead of ${shortId(known)}`, {
    hint: `${hintFor({ name }, RIGHT_DESTINATION)} To use this repository from now on, run \`lifeboat accept destination\`. To only read from it, name it with --from.`,
  });
}

/** Returns the first digits of a repository's id, enough for people to distinguish repositories. */
export function shortId({ id }: RepositoryInfo): string {
  return id.slice(0, 8);
}

function otherRepository({ name }: Destination): LifeboatError {
  return new LifeboatError('DEST_FOREIGN', `${name} belongs to another repository`, {
    hint: 'Give the copy an empty directory or prefix of its own. If the destination is new and only that copy is left of the old one, empty the destination, then restore it with `lifeboat copy --from`.',
  });
}

/** Reads a destination's repository info; undefined if it has none. Throws OBJECT_DAMAGED, FORMAT_UNSUPPORTED. */
export async function readInfo(destination: Destination): Promise<RepositoryInfo | undefined> {
  try {
    return decodeRepositoryInfo(await readDocument(destination, INFO_KEY));
  } catch (error) {
    if (hasCode(error, 'OBJECT_MISSING')) return undefined;
    throw error;
  }
}
