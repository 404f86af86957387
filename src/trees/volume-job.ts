import type { Destination } from '../destinations/destination.ts';
import type { SealKeys } from '../plan/seal-keys.ts';
import { appendJournal } from '../run/journal.ts';
import { compareTree, type TreeDifference } from '../store/content/compare-tree.ts';
import { type BuiltTree, buildBeside, undoBeside } from '../store/exchange/build-beside.ts';
import {
  type Exchanged,
  forgetAreas,
  listAreas,
  rollBackArea,
  swapBuilt,
  type VolumeArea,
} from '../store/exchange/volume-areas.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFile } from '../store/filesystem/index-file.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import type { ProgressSink } from './job.ts';

/** Where the packs are, and the keys to them. */
export interface JobRepository {
  destination: Destination;
  keys: SealKeys;
}

/** Work on a volume in use, as plain data: it crosses into a helper or a process as JSON. */
interface Job {
  /** absolute path of the volume, where the job runs */
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

/** Builds what is to come in beside the data. `id`: of the restore; `needed`: bytes. */
interface BuildJob extends SnapshotJob {
  kind: 'build';
  id: string;
  spool: string;
  needed: number;
}

/** Puts what was built under the same id in place. */
interface SwapJob extends Job {
  kind: 'swap';
  id: string;
  /** hears of the first move */
  journal: string;
  at: string;
  whole: boolean;
  /** only while nothing is there */
  empty: boolean;
  /** inode of what was built */
  expected: string;
  snapshot: string;
}

/** Takes back what of a restore or rollback is not complete. */
interface UndoJob extends Job {
  kind: 'undo';
  id: string;
}

/** Brings back what is kept of `restore`; `id` is the rollback's own. */
interface RollBackJob extends Job {
  kind: 'roll-back';
  id: string;
  /** hears of the first move */
  journal: string;
  at: string;
  restore: string;
  /** only finds out whether it could */
  check?: boolean;
}

interface ForgetJob extends Job {
  kind: 'forget';
  restore: string;
}

interface AreasJob extends Job {
  kind: 'areas';
}

export type VolumeJob = CompareJob | BuildJob | SwapJob | UndoJob | RollBackJob | ForgetJob | AreasJob;

/** What each kind of job comes to. */
export interface VolumeResults {
  compare: TreeDifference;
  build: BuiltTree;
  swap: Exchanged;
  undo: { now: 'old' | 'new' };
  'roll-back': Exchanged;
  forget: { forgotten: true };
  areas: VolumeArea[];
}

export type VolumeResult = VolumeResults[VolumeJob['kind']];

const PROGRESS_MS = 250;

/** True for jobs that only look. */
export function onlyReads({ kind }: { kind: string }): boolean {
  return kind === 'compare' || kind === 'areas';
}

export function isVolumeJob(job: { kind: string }): job is VolumeJob {
  return ['compare', 'build', 'swap', 'undo', 'roll-back', 'forget', 'areas'].includes(job.kind);
}

/** Runs a job in this process. It uses synchronous calls: only for processes that do nothing else. */
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
      const index = readIndexFile(indexPath);
      return compareTree({ ...rest, index, select: selection(paths), signal, progress: inPhase('comparing') });
    }
    case 'build': {
      const { kind: _, indexPath, paths, ...rest } = job;
      const index = () => readIndexFile(indexPath);
      const told = inPhase('restoring files');
      return buildBeside({ ...rest, index, select: selection(paths), ...repository, signal, progress: told });
    }
    case 'swap':
      return swapBuilt(exchanging(job, often(inPhase('moving into place'))));
    case 'undo':
      return { now: await undoBeside(job.root, job.id, often(inPhase('taking back'))) };
    case 'roll-back':
      return rollBackArea(exchanging(job, often(inPhase('moving into place'))));
    case 'forget':
      await forgetAreas(job.root, job.restore, often(inPhase('deleting')));
      return { forgotten: true };
    case 'areas':
      return listAreas(job.root, { signal });
  }
}

function selection(paths: readonly string[]) {
  return paths.length > 0 ? selectByGlobs(paths) : undefined;
}

/** From its first move on the journal tells that the volume may be neither the old nor the new. */
function exchanging<J extends SwapJob | RollBackJob>({ kind: _, journal, ...job }: J, heard: () => void) {
  return { ...job, begun: () => appendJournal(journal, { type: 'volume-swap', id: job.id }), heard };
}

/** Counts what it hears of, and tells a few times a second. */
function often(tell: (progress: { done: number; files: number }) => void): () => void {
  let files = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  return () => {
    files++;
    // Not by the clock: set back, it would hold progress up until the run counts as stalled.
    if (performance.now() - toldAt < PROGRESS_MS) return;
    toldAt = performance.now();
    tell({ done: 0, files });
  };
}
