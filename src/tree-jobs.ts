import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type ErrorInfo, errorInfo } from './errors.ts';
import { appendJournal } from './journal.ts';
import type { Progress } from './report/events.ts';
import { spoolError } from './spool.ts';
import { type ExtractedTree, extractTree } from './store/extract-tree.ts';
import { selectByGlobs } from './store/glob.ts';
import { readIndexFile } from './store/index-file.ts';
import type { PackRef } from './store/pack-stream.ts';
import { type StoredTree, storeTree } from './store/store-tree.ts';
import { walk } from './store/walk.ts';
import { isVolumeJob, type JobRepository, runVolumeJob, type VolumeJob, type VolumeResult } from './volume-jobs.ts';

export type ProgressSink = (progress: Omit<Progress, 'source'>) => void;

/** The last good snapshot of a source: its index as a plain file, and the packs that it uses. */
export interface PreviousTree {
  indexPath: string;
  packs: readonly PackRef[];
}

/** What storing or extracting a tree needs, as plain data: it crosses into a helper as JSON. */
export interface StoreJob {
  kind: 'store';
  root: string;
  include: string[];
  exclude: string[];
  project: string;
  source: string;
  indexPath: string;
  spool: string;
  journal: string;
  previous?: PreviousTree;
}

/** Counts without reading: for `plan`. */
export interface MeasureJob {
  kind: 'measure';
  root: string;
  include: string[];
  exclude: string[];
}

/** What a tree holds. `whole` is false when counting was cut short: then the numbers are lower bounds. */
export interface MeasuredTree {
  files: number;
  bytes: number;
  whole: boolean;
}

export interface ExtractJob {
  kind: 'extract';
  /** plain index on the spool */
  indexPath: string;
  packs: PackRef[];
  target: string;
  select: string[];
  spool: string;
}

export type TreeJob = StoreJob | ExtractJob | MeasureJob | VolumeJob;

/** What of the agent a job works with besides its tree. */
export interface JobNeeds {
  /** files and directories of the spool, by their paths there */
  spool: Record<string, 'read-only' | 'read-write'>;
  /** what it does with the repository; absent: nothing */
  repository?: 'read-only' | 'read-write';
}

/** See {@link JobNeeds}. */
export function needsOf(job: TreeJob): JobNeeds {
  switch (job.kind) {
    case 'store': {
      const own = {
        [path.dirname(job.indexPath)]: 'read-write',
        [job.spool]: 'read-write',
        [job.journal]: 'read-write',
      };
      const known = job.previous ? { [job.previous.indexPath]: 'read-only' } : {};
      return { spool: { ...known, ...own } as JobNeeds['spool'], repository: 'read-write' };
    }
    case 'extract':
    case 'build':
      return { spool: { [job.indexPath]: 'read-only', [job.spool]: 'read-write' }, repository: 'read-only' };
    case 'compare':
      return { spool: { [job.indexPath]: 'read-only' } };
    case 'swap':
    case 'roll-back':
      return { spool: { [job.journal]: 'read-write' } };
    default:
      return { spool: {} };
  }
}

export type TreeResult = StoredTree | ExtractedTree | MeasuredTree | VolumeResult;

/** What a helper reads from its stdin. */
export interface TreeJobInput {
  job: TreeJob;
  /** settings that must not stand in its environment, by name */
  settings: Record<string, string>;
}

/** One line that a helper writes to its stdout. */
export type TreeJobLine =
  | { type: 'progress'; progress: Omit<Progress, 'source'> }
  | { type: 'result'; result: TreeResult }
  | { type: 'error'; error: ErrorInfo };

/** Runs a job in this process. */
export async function runTreeJob(
  job: TreeJob,
  repository: JobRepository,
  signal: AbortSignal,
  progress: ProgressSink,
): Promise<TreeResult> {
  const inPhase = (phase: string) => (update: { done: number; files: number }) => progress({ phase, ...update });
  if (isVolumeJob(job)) return runVolumeJob(job, repository, signal, progress);
  if (job.kind === 'measure') return measureTree(job, signal);
  if (job.kind === 'extract') {
    const { indexPath, select, ...rest } = job;
    return extractTree({
      ...rest,
      index: readIndexFile(indexPath),
      ...(select.length > 0 ? { select: selectByGlobs(select) } : {}),
      owner: true,
      durable: true,
      ...repository,
      signal,
      progress: inPhase('restoring files'),
    });
  }
  const { journal, spool: _spool, ...rest } = job;
  return storeTree({
    ...rest,
    ...repository,
    recordObject: async (key) => appendJournal(journal, { type: 'object', key }),
    signal,
    progress: inPhase('storing'),
  }).catch((error: unknown) => {
    throw spoolError(error);
  });
}

/** How long counting may take, milliseconds. */
const MEASURE_LIMIT_MS = 5000;

async function measureTree({ root, include, exclude }: MeasureJob, signal: AbortSignal): Promise<MeasuredTree> {
  const measured = { files: 0, bytes: 0, whole: true };
  const end = performance.now() + MEASURE_LIMIT_MS;
  for await (const { stat } of walk(root, { include, exclude, signal })) {
    if (stat?.type === 'file') {
      measured.files += 1;
      measured.bytes += stat.size;
    }
    if (performance.now() > end) return { ...measured, whole: false };
  }
  return measured;
}

/**
 * The inside of a helper: the job comes in by stdin, progress and result leave as lines on stdout. `open` gets the settings that
 * came with the job.
 */
export async function treeJobMain(
  stdin: Readable,
  write: (line: string) => void,
  open: (settings: Record<string, string>) => JobRepository,
  signal: AbortSignal,
): Promise<void> {
  const say = (line: TreeJobLine) => write(`${JSON.stringify(line)}\n`);
  try {
    const { job, settings } = JSON.parse(await text(stdin)) as TreeJobInput;
    const progress: ProgressSink = (update) => say({ type: 'progress', progress: update });
    say({ type: 'result', result: await runTreeJob(job, open(settings), signal, progress) });
  } catch (error) {
    say({ type: 'error', error: errorInfo(signal.aborted ? signal.reason : error) });
  }
}
