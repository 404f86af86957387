import path from 'node:path';
import { readJson, writeJson } from './state-files.ts';

/**
 * Which snapshot was last restored whole into each Postgres source. After a server was created again and filled from
 * its last snapshot, the next backup does not report it as another server that may have lost data.
 */

/** A restore of a whole source. */
export interface RestoredSource {
  snapshot: string;
  /** the system identifier of the server that was filled */
  system: string;
}

const fileIn = (directory: string) => path.join(directory, 'restored.json');

/** Returns the last restore of each source, by its name. `directory`: of the state. */
export async function readRestored(directory: string): Promise<Record<string, RestoredSource>> {
  return (await readJson<Record<string, RestoredSource>>(fileIn(directory))) ?? {};
}

/** Records a restore. `restored` undefined: the data is no longer that of one snapshot, such as after a rollback. */
export async function saveRestored(
  directory: string,
  source: string,
  restored: RestoredSource | undefined,
): Promise<void> {
  const { [source]: before, ...others } = await readRestored(directory);
  if (before === undefined && restored === undefined) return;
  await writeJson(fileIn(directory), restored === undefined ? others : { ...others, [source]: restored });
}
