import type { Destination } from '../destinations/destination.ts';
import type { Mount } from '../plan/model.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import type { ProgressSink } from '../report/events.ts';
import { appendJournal, type JournalEntry } from '../run/journal.ts';
import { compareTree, type TreeDifference } from '../store/content/compare-tree.ts';
import { type VerifiedTree, verifyTree } from '../store/content/verify-tree.ts';
import type { AreaOptions, BuiltAreas } from '../store/exchange/build-area.ts';
import { type BuiltTree, buildTree, undoIncomplete } from '../store/exchange/build-tree.ts';
import { compareFile, type FileComparison } from '../store/exchange/compare-file.ts';
import { type CopiedTree, copyTree } from '../store/exchange/copy-tree.ts';
import type { Exchanged } from '../store/exchange/exchange.ts';
import type { EndedExchange } from '../store/exchange/finish-exchange.ts';
import type { KnownArea } from '../store/exchange/known-area.ts';
import { listAreas, type VolumeArea } from '../store/exchange/list-areas.ts';
import type { AreaRecord, Ended } from '../store/exchange/own-area.ts';
import { forgetArea, rollBackArea, swapBuilt } from '../store/exchange/volume-areas.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { often } from './often.ts';

/** The packs of a tree, and their keys. */
export interface JobRepository {
  destination: Destination;
  keys: SealKeys;
}

/** A job on a volume in use, as plain data: it crosses into a helper or a process as JSON. */
interface Job {
  /** absolute path of the volume where the job runs */
  root: string;
}

interface SnapshotJob extends Job {
  /** plain index on the spool */
  indexPath: string;
  packs: PackRef[];
  /** globs; none: everything */
  paths: string[];
  overwrite: boolean;
}

interface CompareJob extends SnapshotJob {
  kind: 'compare';
}

/** Compares everything in a restored volume with its index, and reads the contents back. */
interface VerifyJob extends Job, Pick<SnapshotJob, 'indexPath'> {
  kind: 'verify';
}

/** Compares a single mounted file with the snapshot of it. */
interface CompareFileJob extends Job {
  kind: 'compare-file';
  /** of the file in `root` */
  name: string;
  /** plain index on the spool */
  indexPath: string;
}

/** Builds the new content next to the present data. `id`: of the restore; `needed`: bytes. */
interface BuildJob extends SnapshotJob {
  kind: 'build';
  id: string;
  /** records the areas as soon as they exist */
  journal: string;
  spool: string;
  needed: number;
}

/** Builds a copy of the tree in another volume next to the present data. `id`: of the restore; `needed`: bytes. */
interface CopyJob extends Job {
  kind: 'copy';
  id: string;
  /** the volume to copy, of which the helper sees all at {@link COPIED} */
  from: Mount;
  /** records the areas as soon as they exist */
  journal: string;
  needed: number;
}

/** The path at which a helper sees the volume that it copies. */
export const COPIED = '/copied';

/** Swaps the content that was built under the same id into place. */
export interface SwapJob extends Job {
  kind: 'swap';
  id: string;
  /** called before the first move */
  journal: string;
  at: string;
  whole: boolean;
  /** only if the target does not exist */
  empty: boolean;
  /** the areas of the build, and the built directory */
  areas: BuiltAreas;
  snapshot: string;
}

/** Reverts an incomplete restore or rollback. */
interface UndoJob extends Job {
  kind: 'undo';
  id: string;
  /** records that the volume is wholly old or new */
  journal: string;
  /** its areas, as far as the journal shows them */
  areas: AreaRecord;
}

/** Brings back the kept data of `restore`; `id` is the id of the rollback. */
interface RollBackJob extends Job {
  kind: 'roll-back';
  id: string;
  /** called before the first move */
  journal: string;
  at: string;
  restore: string;
  /** the record of the old data */
  known: KnownArea;
  /** only checks whether it is possible */
  check?: boolean;
}

interface ForgetJob extends Job {
  kind: 'forget';
  known: KnownArea;
  /** only checks whether the area is the recorded one */
  check?: boolean;
}

interface AreasJob extends Job {
  kind: 'areas';
  /** the recorded areas */
  known: readonly KnownArea[];
}

export type VolumeJob =
  | CompareJob
  | VerifyJob
  | CompareFileJob
  | BuildJob
  | CopyJob
  | SwapJob
  | UndoJob
  | RollBackJob
  | ForgetJob
  | AreasJob;

/** The result of each kind of job. */
export interface VolumeResults {
  compare: TreeDifference;
  verify: VerifiedTree;
  'compare-file': FileComparison;
  build: BuiltTree;
  copy: CopiedTree;
  swap: Exchanged;
  undo: EndedExchange;
  'roll-back': Exchanged;
  forget: { forgotten: true };
  areas: VolumeArea[];
}

export type VolumeResult = VolumeResults[VolumeJob['kind']];

const READING: readonly string[] = ['compare', 'verify', 'compare-file', 'areas'];
const WRITING: readonly string[] = ['build', 'copy', 'swap', 'undo', 'roll-back', 'forget'];

/** Returns whether a job is read-only. */
export const onlyReads = ({ kind }: { kind: string }): boolean => READING.includes(kind);

export function isVolumeJob(job: { kind: string }): job is VolumeJob {
  return READING.includes(job.kind) || WRITING.includes(job.kind);
}

/** Runs a job in this process, with synchronous calls: only for processes that do nothing else. */
export async function runVolumeJob(
  job: VolumeJob,
  repository: JobRepository,
  signal: AbortSignal,
  progress: ProgressSink,
): Promise<VolumeResult> {
  const inPhase = (phase: string) => (update: { done: number; files: number }) => progress({ phase, ...update });
  switch (job.kind) {
    case 'compare': {
      const { kind: _, indexPath, paths, ...rest } = job;
      const index = readIndexFileLines(indexPath);
      return compareTree({ ...rest, index, select: selection(paths), signal, progress: inPhase('comparing') });
    }
    case 'verify':
      return verifyTree({ ...job, index: readIndexFileLines(job.indexPath), signal, progress: inPhase('comparing') });
    case 'compare-file':
      return compareFile({ root: job.root, name: job.name, index: readIndexFileLines(job.indexPath) });
    case 'build': {
      const { kind: _, indexPath, paths, journal: __, ...rest } = job;
      return buildTree({
        ...rest,
        index: () => readIndexFileLines(indexPath),
        select: selection(paths),
        ...repository,
        ...building(job),
        signal,
        progress: inPhase('restoring files'),
      });
    }
    case 'copy': {
      const { root, id, needed } = job;
      return copyTree({ root, id, needed, from: COPIED, ...building(job), signal, progress: inPhase('copying files') });
    }
    case 'swap':
      return swapBuilt(exchanging(job, often(inPhase('moving into place'))));
    case 'undo': {
      const heard = often(inPhase('taking back'));
      return undoIncomplete(job.root, job.id, { record: job.areas, ended: endedIn(job.journal, job.id), heard });
    }
    case 'roll-back': {
      const made = (areas: AreaRecord) => appendJournal(job.journal, { type: 'volume-areas', id: job.id, areas });
      return rollBackArea({ ...exchanging(job, often(inPhase('moving into place'))), made });
    }
    case 'forget':
      await forgetArea(job.root, job.known, often(inPhase('deleting')), job.check);
      return { forgotten: true };
    case 'areas':
      return listAreas(job.root, job.known, signal);
  }
}

/** Adds the journal to a build. */
function building({ id, journal }: BuildJob | CopyJob): Pick<AreaOptions, 'made' | 'takenBack'> {
  return {
    made: (areas) => appendJournal(journal, { type: 'volume-areas', id, areas }),
    takenBack: () => noteEnd(journal, { type: 'volume-done', id, now: 'old' }),
  };
}

function selection(paths: readonly string[]) {
  return paths.length > 0 ? selectByGlobs(paths) : undefined;
}

/** Adds the journal to a job: it records before the first move that the volume may be neither old nor new. */
function exchanging<J extends SwapJob | RollBackJob>({ kind: _, journal, ...job }: J, heard: () => void) {
  const begun = ({ identity, list, size, root }: KnownArea) =>
    appendJournal(journal, { type: 'volume-swap', id: job.id, area: identity, list, size, root });
  return { ...job, begun, ended: endedIn(journal, job.id), heard };
}

/** Returns a function that records that a volume is wholly old or new, and whether it could record that. */
function endedIn(journal: string, id: string): (state: Ended) => boolean {
  return (state) => noteEnd(journal, { type: 'volume-ended', id, ...state });
}

/** Records a completed step. Returns whether that succeeded: a full spool does not turn a success into a failure. */
function noteEnd(journal: string, entry: JournalEntry): boolean {
  try {
    appendJournal(journal, entry);
    return true;
  } catch {
    return false;
  }
}
