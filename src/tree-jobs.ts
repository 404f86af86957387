import { createReadStream } from 'node:fs';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import type { Destination } from './destinations/destination.ts';
import type { Engine } from './docker/engine.ts';
import { type HelperMount, helperMount } from './docker/helper.ts';
import { runHelper } from './docker/run-helper.ts';
import { type ErrorCode, type ErrorInfo, errorInfo, LifeboatError } from './errors.ts';
import { appendJournal } from './journal.ts';
import type { Log } from './log.ts';
import type { Progress } from './report/events.ts';
import type { CapturedTree, Reach } from './sources/source.ts';
import { HELPER_ROOT } from './sources/volume.ts';
import { type ExtractedTree, extractTree } from './store/extract-tree.ts';
import { selectByGlobs } from './store/glob.ts';
import { readIndex } from './store/index-file.ts';
import type { PackRef } from './store/pack-stream.ts';
import { type StoredTree, storeTree } from './store/store-tree.ts';
import { walk } from './store/walk.ts';

type ProgressSink = (progress: Omit<Progress, 'source'>) => void;

/** The last good snapshot of a source: its index as a plain file, and the packs that it uses. */
export interface PreviousTree {
  indexPath: string;
  packs: readonly PackRef[];
}

/** What storing or extracting a tree needs, as plain data: it crosses into a helper as JSON. */
interface StoreJob {
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
interface MeasureJob {
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

interface ExtractJob {
  kind: 'extract';
  /** plain index on the spool */
  indexPath: string;
  packs: PackRef[];
  target: string;
  select: string[];
  spool: string;
}

export type TreeJob = StoreJob | ExtractJob | MeasureJob;

type TreeResult = StoredTree | ExtractedTree | MeasuredTree;

/** One line that a helper writes to its stdout. */
type TreeJobLine =
  | { type: 'progress'; progress: Omit<Progress, 'source'> }
  | { type: 'result'; result: TreeResult }
  | { type: 'error'; error: ErrorInfo };

/** Runs a job in this process. */
export async function runTreeJob(
  job: TreeJob,
  destination: Destination,
  signal: AbortSignal,
  progress: ProgressSink,
): Promise<TreeResult> {
  const inPhase = (phase: string) => (update: { done: number; files: number }) => progress({ phase, ...update });
  if (job.kind === 'measure') return measureTree(job, signal);
  if (job.kind === 'extract') {
    const { indexPath, select, ...rest } = job;
    return extractTree({
      ...rest,
      index: readIndex(createReadStream(indexPath)),
      ...(select.length > 0 ? { select: selectByGlobs(select) } : {}),
      owner: true,
      destination,
      signal,
      progress: inPhase('restoring files'),
    });
  }
  const { journal, spool: _spool, ...rest } = job;
  return storeTree({
    ...rest,
    destination,
    recordObject: async (key) => appendJournal(journal, { type: 'object', key }),
    signal,
    progress: inPhase('storing'),
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

/** The inside of a helper: the job comes in by stdin, progress and result leave as lines on stdout. */
export async function treeJobMain(
  stdin: Readable,
  write: (line: string) => void,
  openDestination: () => Destination,
  signal: AbortSignal,
): Promise<void> {
  const say = (line: TreeJobLine) => write(`${JSON.stringify(line)}\n`);
  try {
    const job = JSON.parse(await text(stdin)) as TreeJob;
    const result = await runTreeJob(job, openDestination(), signal, (progress) => say({ type: 'progress', progress }));
    say({ type: 'result', result });
  } catch (error) {
    say({ type: 'error', error: errorInfo(signal.aborted ? signal.reason : error) });
  }
}

export interface TreeStoreDeps {
  engine: Engine;
  log: Log;
  project: string;
  destination: Destination;
  /** the agent's own container: helpers share its image, volumes and network */
  agent: { id: string; imageId: string };
  /** settings that a helper needs, by name; nothing secret: those would go through stdin */
  helperEnv: Record<string, string>;
  /** milliseconds without any progress after which a helper counts as stalled */
  stallTimeoutMs: number;
}

export interface StoreRequest extends Omit<StoreJob, 'kind' | 'root' | 'include' | 'exclude' | 'project'> {
  tree: CapturedTree;
  runId: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

export interface ExtractRequest extends Omit<ExtractJob, 'kind'> {
  reach: Reach;
  runId: string;
  /** where helpers are recorded before they are made */
  journal: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

export interface MeasureRequest extends Omit<MeasureJob, 'kind'> {
  reach: Reach;
  runId: string;
  signal: AbortSignal;
}

/** Trees into the repository and back, wherever the tree can be reached from. */
export interface TreeStore {
  store(request: StoreRequest): Promise<StoredTree>;
  extract(request: ExtractRequest): Promise<ExtractedTree>;
  measure(request: MeasureRequest): Promise<MeasuredTree>;
}

interface JobContext {
  runId: string;
  /** absent where nothing is changed: such a helper is removed by its label if all else fails */
  journal?: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

export function createTreeStore(deps: TreeStoreDeps): TreeStore {
  async function run(job: TreeJob, reach: Reach, context: JobContext): Promise<TreeResult> {
    if (reach.kind === 'here') return runTreeJob(job, deps.destination, context.signal, context.progress);
    return runInHelper(deps, job, helperMount(reach.mount, HELPER_ROOT, job.kind === 'extract'), context);
  }
  return {
    async store({ tree, runId, signal, progress, ...rest }) {
      const { root, include, exclude } = tree;
      const job: StoreJob = { kind: 'store', project: deps.project, root, include, exclude, ...rest };
      return (await run(job, tree.reach, { runId, journal: rest.journal, signal, progress })) as StoredTree;
    },
    async extract({ reach, runId, journal, signal, progress, ...rest }) {
      const job: ExtractJob = { kind: 'extract', ...rest };
      return (await run(job, reach, { runId, journal, signal, progress })) as ExtractedTree;
    },
    async measure({ reach, runId, signal, ...rest }) {
      const job: MeasureJob = { kind: 'measure', ...rest };
      return (await run(job, reach, { runId, signal, progress: () => undefined })) as MeasuredTree;
    },
  };
}

/** A helper of the agent's own image over a volume that the agent has not mounted, running the same code. */
async function runInHelper(
  deps: TreeStoreDeps,
  job: TreeJob,
  mount: HelperMount,
  context: JobContext,
): Promise<TreeResult> {
  const stalled = new AbortController();
  const watch = setTimeout(() => {
    const message = `reading ${mount.source} made no progress for ${Math.round(deps.stallTimeoutMs / 1000)} s`;
    stalled.abort(
      new LifeboatError('TREE_STALLED', message, { hint: 'Look at the disk or network file system behind it.' }),
    );
  }, deps.stallTimeoutMs);
  let last: TreeJobLine | undefined;
  try {
    await runHelper(
      {
        engine: deps.engine,
        recordBefore: async (name) => {
          if (context.journal) appendJournal(context.journal, { type: 'helper', name });
        },
        log: deps.log,
        signal: AbortSignal.any([context.signal, stalled.signal]),
      },
      {
        purpose: 'volume',
        project: deps.project,
        runId: context.runId,
        image: deps.agent.imageId,
        cmd: ['lifeboat', 'tree-job'],
        networkMode: `container:${deps.agent.id}`,
        volumesFrom: [deps.agent.id],
        mounts: [mount],
        user: '0:0',
        // What reading and writing files of any owner takes, and no more.
        capAdd: ['CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID'],
        env: deps.helperEnv,
      },
      {
        input: job,
        onLine: (line) => {
          watch.refresh();
          last = line as TreeJobLine;
          if (last.type === 'progress') context.progress(last.progress);
        },
      },
    );
  } catch (error) {
    throw stalled.signal.aborted ? stalled.signal.reason : error;
  } finally {
    clearTimeout(watch);
  }
  if (last?.type === 'result') return last.result;
  if (last?.type === 'error') throw fromInfo(last.error);
  throw new LifeboatError('HELPER_FAILED', 'a helper ended without a result');
}

/** Inverse of `errorInfo`, for errors that crossed a process border. */
function fromInfo(info: ErrorInfo): LifeboatError {
  const cause = info.cause === undefined ? undefined : new Error(info.cause);
  return new LifeboatError(info.code as ErrorCode, info.message, { ...(info.hint ? { hint: info.hint } : {}), cause });
}
