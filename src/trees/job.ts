import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { HEARTBEAT_S } from '../docker/heartbeat.ts';
import type { FileMounts, LeftOutData } from '../plan/values/file-mounts.ts';
import type { Progress, ProgressSink } from '../report/events.ts';
import { appendJournal } from '../run/journal.ts';
import { spoolError } from '../run/spool.ts';
import { extractTree } from '../store/content/extract-tree.ts';
import type { ExtractedTree } from '../store/content/extracted-tree.ts';
import { type MeasuredTree, measureTree } from '../store/content/measure-tree.ts';
import { storeTree } from '../store/content/store-tree.ts';
import type { KnownContentsRef, StoredTree } from '../store/content/stored-tree.ts';
import { parseAreaName } from '../store/filesystem/area.ts';
import { Directory } from '../store/filesystem/directory.ts';
import { selectByGlobs } from '../store/filesystem/glob.ts';
import { readIndexFileLines } from '../store/filesystem/read-index.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { isVolumeJob, type JobRepository, runVolumeJob, type VolumeJob, type VolumeResult } from './volume-job.ts';

/** The last good snapshot of a source: its index as a plain file, and its packs. */
export interface PreviousTree {
  indexPath: string;
  packs: readonly PackRef[];
  /** the run has listed the destination, and `packs` are those that are there */
  listed?: boolean;
}

/** A job that stores or extracts a tree, as plain data: it crosses into a helper as JSON. */
export interface StoreJob {
  kind: 'store';
  root: string;
  include: string[];
  exclude: string[];
  leaveOut?: LeftOutData;
  fileMounts?: FileMounts;
  project: string;
  source: string;
  indexPath: string;
  spool: string;
  /** whether to copy SQLite databases consistently; false for a dump, which contains none and was made for this run */
  sqlite: boolean;
  journal: string;
  previous?: PreviousTree;
  known?: KnownContentsRef;
}

/** Counts files without reading them, for `plan`. */
export interface MeasureJob {
  kind: 'measure';
  root: string;
  include: string[];
  exclude: string[];
  leaveOut?: LeftOutData;
  fileMounts?: FileMounts;
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

/** The parts of the agent that a job needs besides its tree. */
export interface JobNeeds {
  /** files and directories of the spool, by their paths there */
  spool: Record<string, 'read-only' | 'read-write'>;
  /** its access to the repository; absent: none */
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
      const previous = job.previous ? { [job.previous.indexPath]: 'read-only' } : {};
      const known = job.known ? { [job.known.table]: 'read-only', [job.known.packs]: 'read-only' } : {};
      return { spool: { ...previous, ...known, ...own } as JobNeeds['spool'], repository: 'read-write' };
    }
    case 'build': {
      const own = { [job.spool]: 'read-write', [job.journal]: 'read-write' } as const;
      return { spool: { [job.indexPath]: 'read-only', ...own }, repository: 'read-only' };
    }
    case 'extract':
      return { spool: { [job.indexPath]: 'read-only', [job.spool]: 'read-write' }, repository: 'read-only' };
    case 'compare':
    case 'verify':
    case 'compare-file':
      return { spool: { [job.indexPath]: 'read-only' } };
    case 'copy':
    case 'swap':
    case 'undo':
    case 'roll-back':
      return { spool: { [job.journal]: 'read-write' } };
    default:
      return { spool: {} };
  }
}

export type TreeResult = StoredTree | ExtractedTree | MeasuredTree | VolumeResult;

/** The input of a helper, on its stdin. */
export interface TreeJobInput {
  job: TreeJob;
  /** settings that must not be in its environment, by name */
  settings: Record<string, string>;
}

/** One line of a helper's stdout. */
export type TreeJobLine =
  | { type: 'progress'; progress: Omit<Progress, 'source'> }
  /** keeps a silent connection from being cut; no sign of progress */
  | { type: 'alive' }
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
  if (job.kind === 'measure') {
    const { kind: _, root, ...selection } = job;
    return measureTree(root, { ...selection, signal });
  }
  if (job.kind === 'extract') {
    const { indexPath, select, ...rest } = job;
    return extractTree({
      ...rest,
      index: readIndexFileLines(indexPath),
      ...(select.length > 0 ? { select: selectByGlobs(select) } : {}),
      owner: true,
      durable: true,
      ...repository,
      signal,
      progress: inPhase('restoring files'),
    });
  }
  const { journal, spool, sqlite, ...rest } = job;
  const total = job.previous && sqlite ? undefined : await sizeOf(job, signal);
  const stored = await storeTree({
    ...rest,
    ...(sqlite ? { spool } : { isMade: true }),
    ...repository,
    recordObject: async (key) => appendJournal(journal, { type: 'object', key }),
    signal,
    progress: (update) => progress({ phase: 'storing', ...update, ...(total !== undefined && { total }) }),
  }).catch((error: unknown) => {
    throw spoolError(error);
  });
  return sqlite ? { ...stored, areas: areasIn(job.root) } : stored;
}

/** Returns the names at the top of a tree that restores use for old data. */
function areasIn(path: string): string[] {
  const root = Directory.open(path);
  try {
    return root.names().filter((name) => parseAreaName(name));
  } finally {
    root.close();
  }
}

/** The most time for measuring a tree for the display, milliseconds. Services may be stopped meanwhile. */
const MEASURE_MS = 1000;

/** Returns the size of a tree for the display, bytes; undefined if it takes long to measure. */
async function sizeOf(
  { root, include, exclude, leaveOut }: StoreJob,
  signal: AbortSignal,
): Promise<number | undefined> {
  try {
    const { bytes, whole } = await measureTree(root, { include, exclude, leaveOut, signal, limitMs: MEASURE_MS });
    return whole ? bytes : undefined;
  } catch {
    // Storing the tree reports the error.
    return undefined;
  }
}

/**
 * Runs inside a helper: reads the job from stdin, and writes progress and the result as lines to stdout. `open`
 * receives the settings that came with the job.
 */
export async function treeJobMain(
  stdin: Readable,
  write: (line: string) => void,
  open: (settings: Record<string, string>) => JobRepository,
  signal: AbortSignal,
): Promise<void> {
  const say = (line: TreeJobLine) => write(`${JSON.stringify(line)}\n`);
  const beat = setInterval(() => say({ type: 'alive' }), HEARTBEAT_S * 1000);
  try {
    const { job, settings } = JSON.parse(await text(stdin)) as TreeJobInput;
    const progress: ProgressSink = (update) => say({ type: 'progress', progress: update });
    say({ type: 'result', result: await runTreeJob(job, open(settings), signal, progress) });
  } catch (error) {
    say({ type: 'error', error: errorInfo(signal.aborted ? signal.reason : error) });
  } finally {
    clearInterval(beat);
  }
}
