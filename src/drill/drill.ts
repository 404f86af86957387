import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import { nameRun } from '../base/log.ts';
import { redactDeep } from '../base/redact.ts';
import type { PlannedSource } from '../plan/model.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { formatDuration } from '../report/format.ts';
import { Journal } from '../run/journal.ts';
import { startTimer } from '../run/timer.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { conclude } from './conclude.ts';
import type { DrillDeps, DrillRequest } from './context.ts';
import { drillOne, kindOf, type Run } from './drill-one.ts';
import { readDrills } from './evidence.ts';
import { Places } from './places.ts';
import { runSmokeTests, smokeTests, type Up } from './stack-drill.ts';

/** The last drills that are read to find where the next share of a volume begins. */
const EARLIER = 60;

/**
 * Restores snapshots into throwaway containers and compares them with the record: find → fetch → restore → compare →
 * ask → evidence. Nothing in use is touched. It holds the lock of the project, so it never runs next to a backup, and
 * it ends early when another command asks for the lock.
 *
 * A source that fails does not keep the others from their drill. Stores and notifies the report.
 *
 * @throws LOCKED, SOURCE_UNKNOWN, and the errors of opening the repository, before anything is done
 */
export async function drill(deps: DrillDeps, request: DrillRequest): Promise<DrillReport> {
  const lock = await deps.lock({ ask: false });
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  try {
    await deps.recover();
    const main = { name: deps.place, repository: deps.repository, treeStore: deps.treeStore };
    const places = new Places([main, ...deps.copies], deps.log);
    await places.open();
    const { sources: plan } = await deps.plan();
    const names = await choose(places.repository, plan, request);
    const id = newSnapshotId(startedAt);
    nameRun(id);
    const wanted = lock.whenWanted?.();
    const limit = withLimit(deps.settings.timeoutMs);
    const signal = AbortSignal.any([request.signal, limit.signal, ...(wanted ? [wanted] : [])]);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'drill', id, agent: deps.agentId });
    const results: DrillResult[] = [];
    const unproven: string[] = [];
    try {
      const earlier = () => earlierDrills(deps, places, signal);
      const run: Run = { id, startedAt, journal, places, plan, earlier, signal, until: limit.until, unproven };
      if (request.stack) await drillStack(deps, request, run, { names, results });
      else
        for (const name of names)
          if (!signal.aborted) results.push(await drillOne(deps, request, run, { source: name }));
      results.push(...unreached(names, results, { place: places.repository.destination.name, plan, signal }));
    } finally {
      limit.clear();
      await deps.clear(path.join(deps.spool, id), id);
      await journal.close();
    }
    const report = reportOf(deps, request, { id, startedAt, end: ended(), results, unproven, signal });
    await conclude(deps, report, () => placeOfEvidence(deps, places));
    return report;
  } finally {
    await lock.release();
  }
}

/** Reads the last drills, oldest first. A drill does not fail because of the evidence of others. */
async function earlierDrills(deps: DrillDeps, places: Places, signal: AbortSignal): Promise<readonly DrillReport[]> {
  try {
    const { drills } = await readDrills(await placeOfEvidence(deps, places), { newest: EARLIER, signal });
    return drills.map(({ report }) => report);
  } catch (error) {
    signal.throwIfAborted();
    deps.log.warn('the evidence of earlier drills cannot be read', { ...errorInfo(error) });
    return [];
  }
}

/** Returns results for the sources that a drill ended before, so that its evidence names them. */
function unreached(
  names: readonly string[],
  results: readonly DrillResult[],
  { place, plan, signal }: { place: string; plan: readonly PlannedSource[]; signal: AbortSignal },
): DrillResult[] {
  const left = names.filter((name) => !results.some(({ source }) => source === name));
  const error = errorInfo(new LifeboatError('INTERRUPTED', 'the drill ended before it came to this source'));
  if (!signal.aborted) return [];
  return left.map((source) => {
    const kind = kindOf(plan.find(({ name }) => name === source));
    return { source, kind, status: 'interrupted', place, steps: [], checks: [], notes: [], error };
  });
}

/** Returns a signal that aborts with DRILL_FAILED after that time. */
function withLimit(timeoutMs: number): { signal: AbortSignal; until: number; clear(): void } {
  const over = new AbortController();
  const why = new LifeboatError('DRILL_FAILED', `the drill took longer than ${formatDuration(timeoutMs)}`, {
    hint: 'LIFEBOAT_DRILL_TIMEOUT sets how long it may take.',
  });
  const timer = setTimeout(() => over.abort(why), timeoutMs);
  return { signal: over.signal, until: performance.now() + timeoutMs, clear: () => clearTimeout(timer) };
}

/**
 * Refuses names that neither the plan nor a snapshot has, so that a misspelt one raises no alarm.
 *
 * @throws SOURCE_UNKNOWN
 */
async function refuseUnknown(
  repository: Repository,
  plan: readonly PlannedSource[],
  { sources, signal }: Pick<DrillRequest, 'sources' | 'signal'>,
): Promise<void> {
  const unplanned = sources.filter((source) => !plan.some(({ name }) => name === source));
  if (unplanned.length === 0) return;
  const { snapshots } = await repository.snapshots(signal);
  const stored = new Set(snapshots.flatMap(({ manifest }) => Object.keys(manifest.sources)));
  const unknown = unplanned.filter((source) => !stored.has(source));
  if (unknown.length === 0) return;
  const known = [...new Set([...plan.map(({ name }) => name), ...stored])].sort();
  throw new LifeboatError('SOURCE_UNKNOWN', `no source is named ${unknown.join(', ')}`, {
    hint: known.length > 0 ? `The sources are: ${known.join(', ')}.` : 'There is no snapshot yet.',
  });
}

/** Returns the sources to drill. @throws SOURCE_UNKNOWN */
async function choose(
  repository: Repository,
  plan: readonly PlannedSource[],
  { sources, snapshot, signal }: DrillRequest,
): Promise<string[]> {
  if (sources.length > 0) {
    await refuseUnknown(repository, plan, { sources, signal });
    return [...new Set(sources)];
  }
  if (snapshot !== 'latest') {
    const { manifest } = await repository.resolve(snapshot);
    const held = Object.entries(manifest.sources).flatMap(([name, { status, kind }]) =>
      status === 'failed' || kind === 'base' ? [] : [name],
    );
    if (held.length > 0) return held;
    throw new LifeboatError('SOURCE_UNKNOWN', `snapshot ${manifest.id} holds nothing that a drill could restore`);
  }
  if (plan.length > 0) return plan.map(({ name }) => name);
  const { snapshots } = await repository.snapshots(signal);
  const stored = Object.entries(snapshots[0]?.manifest.sources ?? {}).filter(([, { kind }]) => kind !== 'base');
  if (stored.length > 0) return stored.map(([name]) => name);
  throw new LifeboatError('SOURCE_UNKNOWN', 'there is no snapshot, so there is nothing to drill');
}

/**
 * Restores all sources at the same time: each drill waits, with its data restored, until those after it and the smoke
 * tests are over. Adds the results in this order.
 */
async function drillStack(
  deps: DrillDeps,
  request: DrillRequest,
  run: Run,
  { names, results }: { names: readonly string[]; results: DrillResult[] },
): Promise<void> {
  const ups: Up[] = [];
  const tests = smokeTests(await deps.plan());
  let isTested = false;
  const testAll = async () => {
    isTested = true;
    results.push(await runSmokeTests(deps, tests, { ...run, ups, say: request.say }));
  };
  const next = async (at: number): Promise<void> => {
    const name = names[at];
    if (name === undefined || run.signal.aborted) return testAll();
    const planned = run.plan.find((one) => one.name === name);
    results.push(
      await drillOne(deps, request, run, {
        source: name,
        whileUp: async (data) => {
          if (planned) ups.push({ planned, data });
          await next(at + 1);
        },
      }),
    );
    // Its drill failed before its data was there.
    if (!isTested) await next(at + 1);
  };
  await next(0);
}

function reportOf(
  deps: DrillDeps,
  { trigger, by }: DrillRequest,
  {
    id,
    startedAt,
    end,
    results,
    unproven,
    signal,
  }: { results: DrillResult[]; end: Date } & Pick<Run, 'id' | 'startedAt' | 'signal' | 'unproven'>,
): DrillReport {
  const has = (status: DrillResult['status']) => results.some((one) => one.status === status);
  const isEarly = signal.aborted ? hasCode(signal.reason, 'INTERRUPTED') : has('interrupted');
  const isLate = signal.aborted && !isEarly;
  const status = has('failed') || isLate ? 'failed' : isEarly ? 'interrupted' : has('unproven') ? 'unproven' : 'ok';
  return redactDeep({
    ...{ id, project: deps.project, trigger, ...(by === undefined ? {} : { by }) },
    ...{ start: startedAt.toISOString(), end: end.toISOString(), status, agentVersion: deps.agentVersion },
    ...{ results, unproven, ...(signal.aborted ? { error: errorInfo(signal.reason) } : {}) },
  });
}

/**
 * Returns the repository for the evidence: the one that was read. The evidence of a copy that somebody asked for
 * belongs to the repository that it is a copy of.
 */
async function placeOfEvidence(deps: DrillDeps, { evidence: read }: Places): Promise<Repository> {
  const own = deps.otherRepository ? await deps.ownRepository() : undefined;
  const isCopy = own?.info.id === read.info.id && own.project === read.project;
  return isCopy ? own : read;
}
