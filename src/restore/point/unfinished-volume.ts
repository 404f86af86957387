import path from 'node:path';
import { LifeboatError } from '../../base/errors.ts';
import type { Engine } from '../../docker/engine.ts';
import { isNotFound } from '../../docker/engine-errors.ts';
import type { State } from '../../run/state.ts';
import { readJson, writeJson } from '../../run/state-files.ts';

/**
 * The new volumes of recoveries to a point in time that have not ended well, by name, with the id of the recovery.
 * Lifeboat never removes a volume of the user's, so that no mistake can cost data.
 */
type Unfinished = Record<string, string>;

type Directory = Pick<State, 'directory'>;

const fileIn = ({ directory }: Directory) => path.join(directory, 'unfinished-volumes.json');

async function read(state: Directory): Promise<Unfinished> {
  return (await readJson<Unfinished>(fileIn(state))) ?? {};
}

/** Records that a recovery is about to make a volume. The caller must hold the lock. @throws SPOOL_FULL */
export async function noteUnfinished(state: Directory, volume: string, id: string): Promise<void> {
  await writeJson(fileIn(state), { ...(await read(state)), [volume]: id });
}

/** Records that the volume is complete. @throws SPOOL_FULL */
export async function noteFinished(state: Directory, volume: string): Promise<void> {
  const { [volume]: _, ...rest } = await read(state);
  await writeJson(fileIn(state), rest);
}

/** Returns the volume that a recovery was to make and may not have completed, if it is one to a new volume. */
export async function unfinishedBy(state: Directory, id: string): Promise<string | undefined> {
  return Object.entries(await read(state)).find(([, run]) => run === id)?.[0];
}

/** Refuses to recover into a volume that exists. @throws TREE_TARGET_NOT_EMPTY; ENGINE_* */
export async function refuseExisting(
  { engine, state }: { engine: Pick<Engine, 'inspectVolume'>; state: Directory },
  volume: string,
): Promise<void> {
  try {
    await engine.inspectVolume(volume);
  } catch (error) {
    if (isNotFound(error)) return;
    throw error;
  }
  const { [volume]: id } = await read(state).catch((): Unfinished => ({}));
  const elsewhere = 'Name a volume that does not exist yet. Lifeboat creates it.';
  throw new LifeboatError('TREE_TARGET_NOT_EMPTY', `there is a volume ${volume} already`, {
    hint:
      id === undefined
        ? elsewhere
        : `${elsewhere} Recovery ${id}, to a volume of that name, did not end well: if it made this one, the volume may be incomplete.`,
  });
}
