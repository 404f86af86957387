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
import { drillOne, type Run } from './drill-one.ts';
import { judgeTargets } from './judge-targets.ts';
import { Places } from './places.ts';
import { askedOf, earlierDrills, unreached } from './record.ts';
import { runSmokeTests, smokeTests, type Up } from './stack-drill.ts';

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
    const earlier = () => earlierDrills(deps, () => placeOfEvidence(deps, places), signal);
    const run: Run = { id, startedAt, journal, places, plan, earlier, signal, until: limit.until, unproven };
    try {
      if (request.stack) await drillStack(deps, request, run, { names, results });
      else
        for (const name of names)
          if (!signal.aborted) results.push(await drillOne(deps, request, run, { source: name }));
      results.push(...unreached(names, results, run));
    } finally {
      limit.clear();
      await deps.clear(path.join(deps.spool, id), id);
      await journal.close();
    }
    const report = reportOf(deps, request, { results, end: ended() }, run);
    await conclude(deps, report, () => placeOfEvidence(deps, places));
    return report;
  } finally {
    await lock.release();
  }
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
  request: DrillRequest,
  { results, end }: { results: DrillResult[]; end: Date },
  { id, startedAt, plan, unproven, signal }: Run,
): DrillReport {
  const { trigger, by } = request;
  const asked = askedOf(deps, request);
  const has = (status: DrillResult['status']) => results.some((one) => one.status === status);
  const isEarly = signal.aborted ? hasCode(signal.reason, 'INTERRUPTED') : has('interrupted');
  const isLate = signal.aborted && !isEarly;
  const status = has('failed') || isLate ? 'failed' : isEarly ? 'interrupted' : has('unproven') ? 'unproven' : 'ok';
  return redactDeep({
    ...{ id, project: deps.project, trigger, ...(by === undefined ? {} : { by }) },
    ...(Object.keys(asked).length === 0 ? {} : { asked }),
    ...{ start: startedAt.toISOString(), end: end.toISOString(), status, agentVersion: deps.agentVersion },
    results: results.map((one) => ({ ...one, ...judgeTargets(one, plan, asked) })),
    ...{ unproven, ...(signal.aborted ? { error: errorInfo(signal.reason) } : {}) },
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
