import { randomUUID } from 'node:crypto';
import type { Destination } from '../destinations/destination.ts';
import { LifeboatError } from '../errors.ts';
import { decodeRepositoryInfo, encodeRepositoryInfo, FORMAT, type RepositoryInfo } from './manifest.ts';
import { readDocument, streamOf } from './objects.ts';

/** Where a repository says what it is. */
export const INFO_KEY = 'lifeboat.json';

/** What a destination says of the repository in it; with `create` an empty one becomes one. Throws like openRepository. */
export async function readOrCreateInfo(destination: Destination, create: boolean): Promise<RepositoryInfo> {
  const found = await readInfo(destination);
  if (found) return found;
  for await (const { key } of destination.list('')) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} holds other things, such as ${key}`, {
      hint: 'Give Lifeboat an empty directory or prefix of its own.',
    });
  }
  if (!create) {
    throw new LifeboatError('DEST_FOREIGN', `${destination.name} is empty, not a Lifeboat repository`, {
      hint: 'Check that the right directory is mounted; the first backup makes a repository in it.',
    });
  }
  const info = { format: FORMAT, id: randomUUID(), created: new Date().toISOString() } as const;
  try {
    await destination.put(INFO_KEY, streamOf(encodeRepositoryInfo(info)));
    return info;
  } catch (error) {
    // Somebody else was quicker: theirs counts.
    const other =
      error instanceof LifeboatError && error.code === 'DEST_EXISTS' ? await readInfo(destination) : undefined;
    if (other) return other;
    throw error;
  }
}

async function readInfo(destination: Destination): Promise<RepositoryInfo | undefined> {
  try {
    return decodeRepositoryInfo(await readDocument(destination, INFO_KEY));
  } catch (error) {
    if (error instanceof LifeboatError && error.code === 'OBJECT_MISSING') return undefined;
    throw error;
  }
}
