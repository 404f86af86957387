import type { Destination } from './destinations/destination.ts';
import type { Engine } from './docker/engine.ts';
import { type HelperMount, helperMount } from './docker/helper.ts';
import { runHelper } from './docker/run-helper.ts';
import { type ErrorCode, type ErrorInfo, LifeboatError } from './errors.ts';
import { appendJournal } from './journal.ts';
import type { Log } from './log.ts';
import type { CapturedTree, Reach } from './sources/source.ts';
import { HELPER_ROOT } from './sources/volume.ts';
import type { ExtractedTree } from './store/extract-tree.ts';
import type { StoredTree } from './store/store-tree.ts';

import type {
  ExtractJob,
  MeasuredTree,
  MeasureJob,
  ProgressSink,
  StoreJob,
  TreeJob,
  TreeJobLine,
  TreeResult,
} from './tree-jobs.ts';
import { runTreeJob } from './tree-jobs.ts';

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
