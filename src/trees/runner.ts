import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Engine } from '../docker/engine.ts';
import type { HelperLimits } from '../docker/helper.ts';
import { HELPER_KINDS, kindSpec, type RoleMount } from '../docker/helper-kinds.ts';
import { partsOf } from '../docker/mount-part.ts';
import { runHelper } from '../docker/run-helper.ts';
import type { Mount } from '../plan/model.ts';
import type { ProgressSink } from '../report/events.ts';
import { appendJournal } from '../run/journal.ts';
import { watched } from '../run/watchdog.ts';
import type { CapturedTree, Reach, TarTree } from '../sources/source.ts';
import { HELPER_ROOT } from '../sources/volume.ts';
import type { ExtractedTree } from '../store/content/extracted-tree.ts';
import type { MeasuredTree } from '../store/content/measure-tree.ts';
import type { StoredTree } from '../store/content/stored-tree.ts';
import { DATA_ROOT } from '../store/filesystem/area.ts';
import type { ExtractJob, MeasureJob, StoreJob, TreeJob, TreeJobInput, TreeResult } from './job.ts';
import { type JobNeeds, needsOf, runTreeJob } from './job.ts';
import { resultOf } from './job-result.ts';
import { runTreeProcess } from './process.ts';
import { storeTar } from './tar-tree.ts';
import {
  COPIED,
  isVolumeJob,
  type JobRepository,
  onlyReads,
  type VolumeJob,
  type VolumeResults,
} from './volume-job.ts';

interface TreeStoreDeps {
  engine: Engine;
  log: Log;
  project: string;
  repository: JobRepository;
  /** the agent's own container: helpers share its image, some of its mounts, and its network for a bucket */
  agent: { id: string; imageId: string; mounts: readonly Mount[] };
  /** the settings that a helper needs, by name; no secrets */
  helperEnv: Record<string, string>;
  /** secret settings, which go to its stdin instead of its environment */
  helperSecrets: Record<string, string>;
  /**
   * the paths that opening the destination needs: a directory, or for a bucket the uploads record and credentials files
   */
  helperPlace: { directory: string } | { uploads: string; files: readonly string[] };
  /** what each helper may use; absent: no limits */
  limits?: HelperLimits | undefined;
  /** a job without progress for this time counts as stalled, milliseconds */
  stallTimeoutMs: number;
  /** the program that runs a job in a separate process; tests replace it */
  processCommand?: readonly string[];
}

interface StoreRequest
  extends Omit<StoreJob, 'kind' | 'root' | 'include' | 'exclude' | 'leaveOut' | 'fileMounts' | 'project'> {
  tree: CapturedTree;
  runId: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

interface ExtractRequest extends Omit<ExtractJob, 'kind'> {
  reach: Reach;
  runId: string;
  /** the journal, which records helpers before they are created */
  journal: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

interface MeasureRequest extends Omit<MeasureJob, 'kind'> {
  reach: Reach;
  runId: string;
  signal: AbortSignal;
}

/** Stores trees in the repository and extracts them, wherever the tree can be reached from. */
export interface TreeStore {
  store(request: StoreRequest): Promise<StoredTree>;
  extract(request: ExtractRequest): Promise<ExtractedTree>;
  measure(request: MeasureRequest): Promise<MeasuredTree>;
  /** Works on a volume in use: compare, build, swap, revert, roll back, forget, list. */
  volume<J extends VolumeJob>(job: J, context: VolumeContext): Promise<VolumeResults[J['kind']]>;
}

interface VolumeContext extends JobContext {
  reach: Reach;
}

interface JobContext {
  runId: string;
  /** absent for jobs that change nothing; recovery removes their helpers by label */
  journal?: string;
  signal: AbortSignal;
  progress: ProgressSink;
}

export function createTreeStore(deps: TreeStoreDeps): TreeStore {
  async function run(job: TreeJob, reach: Reach, context: JobContext): Promise<TreeResult> {
    const place = reach.kind === 'helper' ? (reach.mount.name ?? reach.mount.source) : placeOf(job);
    return watchedJob(deps.stallTimeoutMs, place, context, async (watching) => {
      if (reach.kind === 'here') return runTreeJob(job, deps.repository, watching.signal, watching.progress);
      const result = resultOf(watching.progress, reach.kind === 'helper' ? place : undefined);
      if (reach.kind === 'process') {
        const command = deps.processCommand ?? ['lifeboat', 'tree-job'];
        await runTreeProcess({
          command,
          env: deps.helperEnv,
          input: inputOf(deps, job),
          onLine: result.onLine,
          signal: watching.signal,
        });
      } else {
        const access = writes(job) ? 'read-write' : 'read-only';
        const volumes: RoleMount[] = [{ mount: reach.mount, target: targetOf(reach.mount), access }];
        if (job.kind === 'copy') volumes.push({ mount: job.from, target: COPIED, access: 'read-only' });
        await runInHelper({ deps, job, volumes, context: watching, onLine: result.onLine });
      }
      return result.take();
    });
  }
  return {
    async store({ tree, runId, signal, progress, ...rest }) {
      const { tar } = tree;
      const inTar = (watching: JobContext) =>
        storeTar(tar as TarTree, { ...rest, project: deps.project }, deps.repository, watching);
      if (tar) return watchedJob(deps.stallTimeoutMs, tree.root, { runId, signal, progress }, inTar);
      const { root, include, exclude, leaveOut, fileMounts } = tree;
      const optional = { ...(leaveOut ? { leaveOut } : {}), ...(fileMounts ? { fileMounts } : {}) };
      const selection = { root, include, exclude, ...optional };
      const job: StoreJob = { kind: 'store', project: deps.project, ...selection, ...rest };
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
    async volume<J extends VolumeJob>(job: J, { reach, ...context }: VolumeContext) {
      return (await run(job, reach, context)) as VolumeResults[J['kind']];
    },
  };
}

/** A single file is mounted into the root, so that the tree is a directory. */
function targetOf({ kind, destination, directory }: Mount): string {
  if (directory !== undefined) return DATA_ROOT;
  return kind === 'file' ? path.posix.join(HELPER_ROOT, path.posix.basename(destination)) : HELPER_ROOT;
}

function inputOf(deps: TreeStoreDeps, job: TreeJob): TreeJobInput {
  return { job, settings: needsOf(job).repository ? deps.helperSecrets : {} };
}

function writes(job: TreeJob): boolean {
  return isVolumeJob(job) ? !onlyReads(job) : job.kind === 'extract';
}

function placeOf(job: TreeJob): string {
  return job.kind === 'extract' ? job.target : job.root;
}

/** Ends a job that makes no progress. Throws TREE_STALLED, or what the work throws. */
function watchedJob<T>(
  limitMs: number,
  place: string,
  context: JobContext,
  work: (watching: JobContext) => Promise<T>,
) {
  const message = `${place} made no progress for ${Math.round(limitMs / 1000)} s`;
  const stalled = () =>
    new LifeboatError('TREE_STALLED', message, { hint: 'Check the disk or network file system behind it.' });
  return watched({ limitMs, stalled, signal: context.signal }, (signal, alive) => {
    const progress: ProgressSink = (update) => {
      alive();
      context.progress(update);
    };
    return work({ ...context, signal, progress });
  });
}

interface RunInHelperOptions {
  deps: TreeStoreDeps;
  job: TreeJob;
  volumes: RoleMount[];
  context: JobContext;
  onLine: (line: unknown) => void;
}

/** A helper of the agent's own image over a volume that the agent has not mounted, running the same code. */
async function runInHelper({ deps, job, volumes, context, onLine }: RunInHelperOptions): Promise<void> {
  const needs = needsOf(job);
  await runHelper(
    {
      engine: deps.engine,
      recordBefore: async (name) => {
        if (context.journal) appendJournal(context.journal, { type: 'helper', name });
      },
      log: deps.log,
      signal: context.signal,
    },
    {
      ...kindSpec(HELPER_KINDS.volume, { volume: volumes, ...(await mountsOf(deps, needs)) }),
      ...deps.limits,
      project: deps.project,
      agent: deps.agent.id,
      runId: context.runId,
      image: deps.agent.imageId,
      cmd: ['lifeboat', 'tree-job'],
      ...(needs.repository && 'uploads' in deps.helperPlace ? { networkMode: `container:${deps.agent.id}` } : {}),
      env: deps.helperEnv,
    },
    { input: inputOf(deps, job), onLine },
  );
}

/** The compile cache of the program, which does not exist before the first start has ended. */
const COMPILED = process.env.NODE_COMPILE_CACHE;

/** Returns the mounts of the agent that a helper needs, and no others. */
async function mountsOf({ agent, helperPlace }: TreeStoreDeps, { spool, repository }: JobNeeds) {
  const parts = (paths: JobNeeds['spool']) => partsOf(agent.mounts, paths);
  const code = COMPILED !== undefined && existsSync(COMPILED) ? parts({ [COMPILED]: 'read-only' }) : [];
  if (!repository) return { spool: parts(spool), code };
  if ('directory' in helperPlace) {
    return { spool: parts(spool), code, repository: parts({ [helperPlace.directory]: repository }) };
  }
  const { uploads, files } = helperPlace;
  // Only a job that stores begins uploads.
  const begins = repository === 'read-write';
  if (begins) await mkdir(uploads, { recursive: true, mode: 0o700 });
  const there = files.filter((file) => existsSync(file)).map((file) => [file, 'read-only'] as const);
  return {
    spool: parts(begins ? { ...spool, [uploads]: 'read-write' } : spool),
    code,
    credentials: parts(Object.fromEntries(there)),
  };
}
