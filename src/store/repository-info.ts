import { randomUUID } from 'node:crypto';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { decodeRepositoryInfo, encodeRepositoryInfo, FORMAT, type RepositoryInfo } from './manifest.ts';
import { readDocument, streamOf } from './objects.ts';

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
}

/** What a destination says of the repository in it; with `create` an empty one becomes one. Throws like openRepository. */
export async function readOrCreateInfo(
  destination: Destination,
  { create, copyOf }: Pick<RepositoryOptions, 'create' | 'copyOf'>,
): Promise<RepositoryInfo> {
  const found = await readInfo(destination);
  if (found && copyOf && found.id !== copyOf.id) throw otherRepository(destination);
  if (found) return found;
  for await (const { key } of destination.list('')) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} holds other things, such as ${key}`, {
      hint: 'Give Lifeboat an empty directory or prefix of its own.',
    });
  }
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
  const info = copyOf ?? ({ format: FORMAT, id: randomUUID(), created: new Date().toISOString() } as const);
  try {
    await destination.put(INFO_KEY, streamOf(encodeRepositoryInfo(info)));
    return info;
  } catch (error) {
    // Somebody else was quicker: theirs counts.
    const other =
      error instanceof LifeboatError && error.code === 'DEST_EXISTS' ? await readInfo(destination) : undefined;
    if (other && copyOf && other.id !== copyOf.id) throw otherRepository(destination);
    if (other) return other;
    throw error;
  }
}

function otherRepository({ name }: Destination): LifeboatError {
  return new LifeboatError('DEST_FOREIGN', `${name} belongs to another repository`, {
    hint: 'Give the copy an empty directory or prefix of its own. If the destination is new and that copy is all that is left of the old one: empty the destination, then `lifeboat copy --from` brings it back.',
  });
}

async function readInfo(destination: Destination): Promise<RepositoryInfo | undefined> {
  try {
    return decodeRepositoryInfo(await readDocument(destination, INFO_KEY));
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'OBJECT_MISSING') return undefined;
    throw error;
  }
}
