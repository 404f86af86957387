import { parseAreaName } from '../filesystem/area.ts';
import type { Directory } from '../filesystem/directory.ts';
import { walk } from '../filesystem/walk.ts';
import { KEPT, setRootTime } from './directory-meta.ts';
import type { KnownArea } from './known-area.ts';
import { type ExchangeHeader, type ExchangeStep, OWN_FILES } from './move-list.ts';
import { type Ended, type FoundArea, removeArea } from './own-area.ts';

/** The way to end an exchange. */
export interface EndOptions {
  /**
   * called when the volume is wholly old or new, before anything that could show this is removed. Returns whether that
   * is recorded; if not, nothing is removed.
   */
  ended?: ((state: Ended) => boolean) | undefined;
  heard?: (() => void) | undefined;
}

/** The result of ending an exchange. */
export interface EndedExchange {
  /** the data in the volume; `unknown`: somebody has emptied the area by hand, so that nothing can move back */
  now: 'old' | 'new' | 'unknown';
  /** whether the area holds replaced data; absent if that moved back, or if it is not known */
  kept?: boolean;
  /** directories that were left in the volume, because they hold files or were not recognised, by their names there */
  left: string[];
  /** the end could not be recorded, so the next attempt needs the areas */
  unrecorded?: true;
}

/** An exchange with its directories. */
export interface OpenExchange {
  root: Directory;
  /** the area for the replaced data */
  found: FoundArea;
  known: KnownArea;
  header: ExchangeHeader;
  steps(): AsyncGenerator<ExchangeStep>;
  /** the area that holds the incoming directory; absent if it is gone or is not the recorded one */
  source?: FoundArea | undefined;
  /** how it ended, if the journal says so already */
  ended?: Ended | undefined;
}

/** Returns whether a step is about the root of the volume. */
export function isRoot(step: ExchangeStep): step is ExchangeStep & { type: 'directory' } {
  return step.type === 'directory' && step.path === '';
}

/**
 * Removes what a finished exchange no longer needs, and restores the root's time. The area that held the incoming data
 * stays if it holds a file.
 */
export async function finishExchange(
  { root, found, header, steps, source }: OpenExchange,
  { ended = () => true, heard = () => undefined }: EndOptions,
): Promise<EndedExchange> {
  let replaced = false;
  let { mtime } = root.meta();
  for await (const step of steps()) {
    if (step.type === 'move' && (step.out || !header.whole)) replaced = true;
    if (isRoot(step)) mtime = step.after.mtime;
  }
  const result: EndedExchange = { now: 'new', kept: replaced, left: [] };
  if (!ended({ now: 'new', kept: replaced })) return result;
  if (source && !(await isSpent(source.area))) result.left.push(source.name);
  else if (source) removeArea(root, source, heard);
  // Nothing was replaced, so there is nothing to roll back to. The area would only clutter the application's directory.
  if (!replaced) removeArea(root, found, heard);
  await setRootTime(root, mtime);
  root.sync();
  return result;
}

/** Returns whether nothing but files of Lifeboat and directories is left in the area that held the incoming data. */
async function isSpent(area: Directory): Promise<boolean> {
  const isOfLifeboat = (name: string) => name === KEPT || (OWN_FILES.includes(name) && area.look(name)?.isFile());
  return area.names().every(isOfLifeboat) && !(await holdsFiles(area, KEPT));
}

/** Returns whether a directory holds anything but directories. */
export async function holdsFiles(area: Directory, inside: string): Promise<boolean> {
  const tree = area.enter(inside);
  if (!tree) return area.look(inside) !== undefined;
  try {
    // A walk leaves out areas.
    if (tree.names().some((name) => parseAreaName(name))) return true;
    for await (const { stat } of walk(tree)) if (stat?.type !== 'directory') return true;
    return false;
  } finally {
    tree.close();
  }
}
