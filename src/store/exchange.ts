import path from 'node:path';
import { LifeboatError } from '../errors.ts';
import { areaName, parseAreaName } from './area.ts';
import { Directory, type DirectoryMeta, split, within } from './directory.ts';
import { type ExchangeHeader, type ExchangeStep, exchangeState, markDone, readMoves, writeMoves } from './move-list.ts';
import { displayPath, type TreePath } from './path.ts';
import { joined, KEPT, setMeta, settle } from './settle.ts';

/**
 * Exchanges content of a directory with content beside it, by renames alone. What goes out is kept in an area,
 * `.lifeboat-before-<id>/tree`, under the same paths, and is never deleted here. All renames are written down, on the disk,
 * before the first is made; {@link undoExchange} takes back those of an exchange that did not come to its end.
 */
export interface ExchangeRequest extends ExchangeHeader {
  /** absolute path of the volume */
  root: string;
  /** Called before the first move. */
  begun?(): void;
  /** Hears of each step; throws to end the exchange there. For tests. */
  heard?(): void;
}

/** What was found in the way when an exchange was taken back, inside its area. */
const LATE = 'late';

const MAKE = { make: true };

/**
 * @param plan the steps, given the root and the directory that comes in; run before anything is moved
 * @returns whether anything was kept: an area without content is removed again; and how long the moves took
 * @throws what a rename failed with, when everything is back where it was
 */
export async function exchange(
  request: ExchangeRequest,
  plan: (root: Directory, incoming: Directory) => Iterable<ExchangeStep> | AsyncIterable<ExchangeStep>,
): Promise<{ kept: boolean; swapMs: number }> {
  const { root: rootPath, begun, heard, ...header } = request;
  const root = Directory.open(rootPath);
  const area = path.join(rootPath, areaName('before', header.id));
  let begin = 0;
  let swapMs = 0;
  try {
    const incoming = openIncoming(root, header);
    if (!incoming) throw new LifeboatError('OBJECT_MISSING', `${displayPath(header.incoming)} is not there any more`);
    try {
      root.make(path.basename(area)).close();
      try {
        await writeMoves(area, header, plan(root, incoming));
        const { steps } = await readMoves(area);
        begun?.();
        begin = performance.now();
        for await (const step of steps()) {
          heard?.();
          forward(root, incoming, path.basename(area), step);
        }
        heard?.();
        swapMs = performance.now() - begin;
        await settle(rootPath, root, area, steps(), 'after');
        root.sync();
        heard?.();
        await markDone(area);
      } catch (error) {
        await undoExchange(rootPath, header.id);
        throw error;
      }
    } finally {
      incoming.close();
    }
    heard?.();
    return { kept: await finishExchange(rootPath, header.id), swapMs };
  } finally {
    root.close();
  }
}

/** Only ever inside an area: the list lies where others may write. */
function openIncoming(root: Directory, { incoming }: ExchangeHeader, options?: { make: boolean }) {
  if (!parseAreaName(incoming.split('/')[0] ?? '')) {
    throw new LifeboatError('OBJECT_DAMAGED', `${displayPath(incoming)} is no area of a restore`);
  }
  return within(root, incoming, (found) => Directory.open(found.at('.')), options);
}

function forward(root: Directory, incoming: Directory, area: string, step: ExchangeStep): void {
  if (step.type === 'make') makeIn(root, step.path, step.meta);
  if (step.type !== 'move') return;
  const { parent, name } = split(step.path);
  const done = within(root, parent, (live) => {
    const out =
      !step.out || within(root, joined(area, KEPT, parent), (kept) => moved(step.path, name, live, kept), MAKE);
    return out && (!step.in || within(incoming, parent, (from) => moved(step.path, name, from, live)));
  });
  if (!done) throw new LifeboatError('INTERNAL', `${displayPath(step.path)} is not where it was`);
}

function moved(path: TreePath, name: string, from: Directory, to: Directory): true {
  try {
    from.move(name, to);
    return true;
  } catch (cause) {
    throw new LifeboatError('INTERNAL', `${displayPath(path)} could not be moved`, { cause });
  }
}

function makeIn(root: Directory, directory: TreePath, meta: DirectoryMeta): void {
  const { parent, name } = split(directory);
  within(root, parent, (live) => {
    const made = live.make(name);
    made.own(meta);
    made.close();
  });
}

/**
 * Takes back an exchange that is not done, and removes its area, or finishes one that is. Can be called again whenever it
 * was cut off, and for an id of which there is nothing.
 */
export async function undoExchange(
  rootPath: string,
  id: string,
  heard: () => void = () => undefined,
): Promise<'old' | 'new'> {
  const area = path.join(rootPath, areaName('before', id));
  const state = await exchangeState(area);
  if (state === 'done') {
    await finishExchange(rootPath, id);
    return 'new';
  }
  const root = Directory.open(rootPath);
  let before: DirectoryMeta | undefined;
  try {
    if (state === 'under way') {
      const { header, steps } = await readMoves(area);
      const incoming = openIncoming(root, header, MAKE) as Directory;
      try {
        for await (const step of steps()) {
          heard();
          backward(root, incoming, path.basename(area), step);
          if (step.type === 'directory' && step.path === '') before = step.before;
        }
        await unmake(root, steps());
        await settle(rootPath, root, area, steps(), 'before');
      } finally {
        incoming.close();
      }
      root.sync();
    }
    removeEmptied(root, path.basename(area), heard);
    if (before) await setMeta(rootPath, root, before);
    root.sync();
  } finally {
    root.close();
  }
  return 'old';
}

function backward(root: Directory, incoming: Directory, area: string, step: ExchangeStep): void {
  if (step.type !== 'move') return;
  const { parent, name } = split(step.path);
  within(root, parent, (live) => {
    if (step.in) {
      within(incoming, parent, (from) => {
        if (!from.look(name) && live.look(name)) live.move(name, from);
      });
    }
    if (step.out) {
      within(root, joined(area, KEPT, parent), (kept) => {
        if (!kept.look(name)) return;
        // Somebody made it anew since: theirs is put aside too.
        if (live.look(name)) within(root, joined(area, LATE, parent), (late) => live.move(name, late), MAKE);
        kept.move(name, live);
      });
    }
  });
}

/** Removes an area whose content is back where it was; what was put aside meanwhile stays. */
function removeEmptied(root: Directory, name: string, heard: () => void): void {
  const area = root.enter(name);
  if (!area) return;
  const late = area.look(LATE) !== undefined;
  for (const child of area.names()) if (child !== LATE) area.remove(child, heard);
  area.close();
  if (!late) root.remove(name);
}

async function unmake(root: Directory, steps: AsyncGenerator<ExchangeStep>): Promise<void> {
  const made: TreePath[] = [];
  for await (const step of steps) if (step.type === 'make') made.push(step.path);
  for (const directory of made.reverse()) {
    const { parent, name } = split(directory);
    within(root, parent, (live) => {
      const inside = live.enter(name);
      const empty = inside?.names().length === 0;
      inside?.close();
      if (empty) live.remove(name);
    });
  }
}

/** Removes what a done exchange no longer needs, and gives the root its time. Resolves to whether anything is kept. */
async function finishExchange(rootPath: string, id: string): Promise<boolean> {
  const name = areaName('before', id);
  const { header, steps } = await readMoves(path.join(rootPath, name));
  const root = Directory.open(rootPath);
  try {
    let kept = false;
    let after: DirectoryMeta = root.meta();
    for await (const step of steps()) {
      if (step.type === 'move' && (step.out || !header.whole)) kept = true;
      if (step.type === 'directory' && step.path === '') after = step.after;
    }
    root.remove(header.incoming.split('/')[0] as string);
    // Nothing was replaced: there is nothing to roll back to, and no area to leave in an application's directory.
    if (!kept) root.remove(name);
    await setMeta(rootPath, root, after);
    root.sync();
    return kept;
  } finally {
    root.close();
  }
}
