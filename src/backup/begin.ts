import { randomUUID } from 'node:crypto';
import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { type Log, nameRun, withTail } from '../base/log.ts';
import { listOnce } from '../destinations/list-once.ts';
import { Listing } from '../destinations/listing.ts';
import type { Plan, PlannedSource, Problem } from '../plan/model.ts';
import { type ClockWatch, watchClock } from '../prune/clock-jump.ts';
import type { Progress, RunStart } from '../report/events.ts';
import type { Earlier } from '../report/tries.ts';
import { isRegularRun } from '../report/trigger.ts';
import type { NamedDocuments } from '../run/document-caches.ts';
import { Journal } from '../run/journal.ts';
import { openHolds } from '../run/release.ts';
import { spoolError } from '../run/spool.ts';
import { startTimer } from '../run/timer.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import { missingPlaces } from '../store/repository/chain.ts';
import type { Lease } from '../store/repository/lease.ts';
import type { Repository } from '../store/repository/repository.ts';
import {
  highestSequence,
  placeOf,
  refuseLostEnd,
  rememberList,
  type SeenChain,
} from '../store/repository/seen-chain.ts';
import type { BackupDeps, BackupRequest } from './context.ts';
import { planWhenUp } from './plan-when-up.ts';

/** The part of a request that selects the sources of a run. */
type Choice = Pick<BackupRequest, 'only' | 'isLeftOut'>;

/** A repository and its lease. */
export interface Leased {
  repository: Repository;
  lease: Lease;
  /** the repository, with listings of the moment at which the lease was taken */
  listed: Repository;
}

/** Opens the repository and takes its lease. One listing answers everything that a run needs to know first. */
export async function leaseRepository(deps: Pick<BackupDeps, 'repository' | 'lease'>): Promise<Leased> {
  const repository = await deps.repository();
  const objects = new Listing();
  const lease = await deps.lease(repository, objects);
  const { destination, project } = repository;
  // A lease that needs no listing leaves the list empty: then each question lists what it needs.
  if (objects.size === 0) return { repository, lease, listed: repository };
  return { repository, lease, listed: repository.through(listOnce(destination, `${project}/`, objects)) };
}

/** Everything that a run needs before it reads a source. */
export interface Prepared {
  plan: Plan;
  journal: Journal;
  lease: Lease;
  repository: Repository;
  /** see {@link Leased} */
  listed: Repository;
  list: Awaited<ReturnType<Repository['snapshots']>>;
  /** the highest sequence that a snapshot may have elsewhere; the new one gets a higher one */
  takenSequence: number;
}

/** A run that has begun, and will be reported in any case. Either it is prepared, or `failure` has ended it. */
export interface Run {
  start: RunStart;
  log: Log;
  /** the last lines of the log */
  tail(): string[];
  /** the objects of the project as they were listed right before the commit, and the manifest; set by the commit */
  atCommit?: Listing;
  /** absent when the containers could not be listed */
  plan?: Plan;
  prepared?: Prepared;
  failure?: LifeboatError;
  /** returns an error if the clock was set since the run began */
  clockJump: ClockWatch;
  /** returns the end time of the run if it ends now; see {@link startTimer} */
  ended(): Date;
  /** Releases the lease, if the run holds one. */
  release(): Promise<void>;
  /**
   * Closes the journal. While a container is still held, the journal stays open and {@link BackupDeps.recover} tries
   * again.
   */
  end(): Promise<void>;
}

/**
 * Plans, announces the run, and prepares it: opens a journal, takes the lease and lists the snapshots. Never rejects.
 *
 * @param takeLease returns the lease that the caller requested; absent: this function takes one
 */
export async function beginRun(
  deps: BackupDeps,
  request: BackupRequest,
  takeLease?: () => Promise<Leased>,
): Promise<Run> {
  let failure: LifeboatError | undefined;
  const note = (error: unknown): undefined => {
    failure ??= toLifeboatError(spoolError(error));
  };
  const plan = await planRun(deps, request).catch(note);
  const start = startRun(deps, request, plan);
  nameRun(start.id);
  const clockJump = watchClock(deps.now);
  const ended = startTimer(deps.now, new Date(start.start));
  const { log, tail } = withTail(deps.log);
  deps.dispatcher.emit({ type: 'run-started', run: start });
  log.info('run started', { run: start.id, trigger: start.trigger, sources: start.sources });
  const journal = await openJournal(deps, start, request.attempt?.earlier).catch(note);
  const canRun = plan !== undefined && journal !== undefined && !failure;
  // A lease that was requested is held already, so the run must release it in any case.
  const leased = takeLease || canRun ? await (takeLease?.() ?? leaseRepository(deps)).catch(note) : undefined;
  let prepared: Prepared | undefined;
  if (plan && journal && leased && !failure) {
    try {
      const { repository, listed } = leased;
      const list = await listed.snapshots(request.signal);
      refuseLostEnd(repository, list);
      await deps.forgetPlaces?.();
      await deps.state.keepCached(list.damaged.length > 0 ? undefined : namedBy(list.snapshots));
      const takenSequence = await findTakenSequence(deps, { repository, list, log, signal: request.signal });
      await rememberChain(deps, log, async (seen) => [
        ...(seen ? [] : await missingPlaces(listed, list)),
        ...rememberList(list, seen ?? []),
      ]);
      prepared = { plan, journal, ...leased, list, takenSequence };
    } catch (error) {
      note(error);
    }
  }
  return {
    ...{ start, log, tail, clockJump, ended },
    ...(plan ? { plan } : {}),
    ...(prepared ? { prepared } : {}),
    ...(failure ? { failure } : {}),
    release: async () => leased?.lease.release(),
    end: async () => (journal ? endJournal(journal, log) : undefined),
  };
}

/** Returns which documents of sources snapshots name. */
function namedBy(snapshots: readonly { manifest: Manifest }[]): NamedDocuments {
  const entries = snapshots.flatMap(({ manifest }) => Object.entries(manifest.sources));
  return {
    sources: new Set(entries.map(([name]) => name)),
    indexes: new Set(entries.flatMap(([, { index }]) => (index ? [index.sha256] : []))),
  };
}

/**
 * Returns the highest sequence that a copy may have although the destination may have lost it. An agent without saved
 * state, for example on a new host, asks the copies. It saves the result even if the run fails.
 */
async function findTakenSequence(
  { state, project, highestCopied }: BackupDeps,
  { repository, list, log, signal }: Pick<Prepared, 'repository' | 'list'> & { log: Log; signal: AbortSignal },
): Promise<number> {
  const known = await state.chain(project).catch(() => undefined);
  const remembered = await Promise.all([state.abandoned(project), state.taken(project)]).catch(() => undefined);
  // Numbers that cannot be read may be taken, so the copies are asked.
  if (known && remembered) return Math.max(...remembered);
  const end = highestSequence(list.snapshots.map(placeOf));
  const { taken, unknown } = await highestCopied(repository, end, signal);
  if (unknown.length > 0)
    log.warn('copies do not answer, so the new snapshot skips the numbers that their snapshots may have', {
      copies: unknown,
    });
  await state
    .saveTaken(project, taken)
    .catch((error: unknown) =>
      log.warn('the numbers of copied snapshots could not be remembered', { ...errorInfo(error) }),
    );
  return Math.max(taken, ...(remembered ?? []));
}

/** Remembers the snapshots at the destination. A state that cannot be written does not fail a run. */
export async function rememberChain(
  { state, project }: Pick<BackupDeps, 'state' | 'project'>,
  log: Log,
  change: (seen: SeenChain | undefined) => Promise<SeenChain>,
): Promise<void> {
  try {
    await state.saveChain(project, await change(await state.chain(project)));
  } catch (error) {
    log.warn('the snapshots at the destination could not be remembered', { ...errorInfo(error) });
  }
}

/**
 * Plans the run, and waits for containers that are about to start. Safety snapshots do not wait: the restore has found
 * the service.
 */
async function planRun(deps: BackupDeps, { trigger, signal }: BackupRequest): Promise<Plan> {
  if (!isRegularRun(trigger)) return deps.plan();
  const progress = (progress: Progress) => deps.dispatcher.emit({ type: 'progress', progress });
  return planWhenUp({ plan: deps.plan, progress, log: deps.log, signal });
}

function startRun(deps: BackupDeps, request: BackupRequest, plan: Plan | undefined): RunStart {
  const start = deps.now();
  return {
    id: newSnapshotId(start),
    rid: randomUUID(),
    project: deps.project,
    trigger: request.trigger,
    start: start.toISOString(),
    sources: plan ? chosenSources(plan, request).map(({ name }) => name) : [],
  };
}

/** Returns the sources of the plan that this run backs up. */
export function chosenSources({ sources }: Plan, { only, isLeftOut }: Choice): PlannedSource[] {
  return sources.filter((source) => (only?.(source) ?? true) && !isLeftOut?.(source));
}

/**
 * Returns the problems of the plan that a run reports. A warning about the volumes of a stopped container concerns only
 * runs that store volumes. Mistakes in labels and settings concern every run.
 */
export function problemsOf(plan: Plan, request: Choice): Problem[] {
  const storesVolumes = chosenSources(plan, request).some(({ kind }) => kind === 'volume');
  return plan.problems.filter(
    ({ code, severity }) => storesVolumes || code !== 'CONTAINER_STOPPED' || severity !== 'warning',
  );
}

async function openJournal({ journals, agentId }: BackupDeps, run: RunStart, earlier?: Earlier): Promise<Journal> {
  return new Journal(journals, { type: 'start', verb: 'backup', run, agent: agentId, ...(earlier ? { earlier } : {}) });
}

async function endJournal(journal: Journal, log: Log): Promise<void> {
  const open = openHolds(await journal.entries());
  if (open.length === 0) return journal.close();
  journal.record({ type: 'reported' });
  log.warn('containers are still held; trying again within a minute', {
    containers: open.map(({ container }) => container.name),
  });
}
