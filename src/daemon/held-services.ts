import { halfSwapped } from '../kept/undo-volumes.ts';
import type { Problem } from '../plan/model.ts';
import { type JournalEntry, openJournals, type Reached, type RunVerb, readJournal } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';
import type { UnderWay } from '../run/under-way.ts';

/** A container that is still held by a run that is over. */
interface HeldService {
  container: string;
  /** id of the run that holds it */
  run: string;
  verb: RunVerb | 'rollback';
  /** the missing step: starting the container, or running its `lifeboat.exec.post` */
  waitsFor: 'start' | 'post';
  /** the data that the restore left in place; a backup changes none */
  data: 'old' | 'new' | 'half' | 'unknown' | 'unchanged';
}

/**
 * Returns the containers that are still held by runs that are over, from their journals. `underWay`: the runs to leave
 * out.
 */
export async function heldServices(journals: string, underWay: readonly UnderWay[]): Promise<HeldService[]> {
  const others = new Set(underWay.map(({ file }) => file));
  const files = (await openJournals(journals)).filter((file) => !others.has(file));
  const held: HeldService[] = [];
  for (const file of files) {
    // Recovery may have removed the journal in the meantime.
    const entries: JournalEntry[] = await readJournal(file).catch(() => []);
    const start = entries.find((entry) => entry.type === 'start');
    if (!start) continue;
    const begun = entries.find((entry) => entry.type === 'begun');
    const run = start.verb === 'backup' ? start.run.id : start.id;
    const shared = { run, verb: begun?.restore.verb ?? start.verb, data: dataOf(entries, start.verb) };
    for (const { container, stop } of openHolds(entries)) {
      held.push({ container: container.name, ...shared, waitsFor: stop ? 'start' : 'post' });
    }
  }
  return held;
}

const DATA: Record<Reached, HeldService['data']> = { nothing: 'old', swapped: 'new', half: 'half', unknown: 'unknown' };

function dataOf(entries: readonly JournalEntry[], verb: RunVerb): HeldService['data'] {
  if (verb === 'backup') return 'unchanged';
  if (halfSwapped(entries).length > 0) return 'half';
  const done = entries.findLast((entry) => entry.type === 'volume-done');
  if (done?.now) return done.now;
  const reached = entries.findLast((entry) => entry.type === 'reported')?.reached;
  return reached === undefined || reached === 'half' ? 'unknown' : DATA[reached];
}

const DATA_TEXT: Record<HeldService['data'], string> = {
  unchanged: 'its data is unchanged',
  old: 'the old data is in place',
  new: 'the restored data is in place, and complete',
  half: 'its volume holds neither the old data nor the new',
  unknown: 'it is not known yet which data is in place',
};

/** Returns held containers as problems, for `plan` and `status`. */
export function heldProblems(held: readonly HeldService[]): Problem[] {
  return held.map(({ container, run, verb, waitsFor, data }) => {
    const what =
      waitsFor === 'start' ? 'it is still stopped, or being stopped' : 'its lifeboat.exec.post has not run yet';
    return {
      severity: 'error',
      code: data === 'half' ? 'TREE_HALF_RESTORED' : 'RUN_DIED',
      subject: container,
      message: `${what}, although ${verb} ${run} has ended; ${DATA_TEXT[data]}`,
      hint: 'Lifeboat tries again every minute; `docker compose logs lifeboat` names the obstacle.',
    };
  });
}
