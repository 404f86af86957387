import path from 'node:path';
import { type ErrorInfo, errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import { nameRun } from '../base/log.ts';
import { redactDeep } from '../base/redact.ts';
import type { Plan } from '../plan/model.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { formatDuration } from '../report/format.ts';
import { Journal } from '../run/journal.ts';
import { startTimer } from '../run/timer.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { Repository } from '../store/repository/repository.ts';
import { choose, refuseContradiction, type Wanted } from './choose.ts';
import { conclude } from './conclude.ts';
import type { DrillDeps, DrillRequest } from './context.ts';
import { drillOne, kindOf, noteTurn, type Run } from './drill-one.ts';
import { judgeTargets } from './judge-targets.ts';
import { Places } from './places.ts';
import { askedOf, earlierDrills, unreached } from './record.ts';
import { runSmokeTests, smokeTests, type Up } from './stack-drill.ts';
import { inTurn } from './turns.ts';

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
  refuseContradiction(request);
  const lock = await deps.lock({ ask: false });
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  try {
    await deps.recover();
    const main = { name: deps.place, repository: deps.repository, treeStore: deps.treeStore };
    const places = new Places([main, ...deps.copies], deps.log);
    await places.open(request.signal);
    const plan = await deps.plan();
    const wanted = await chooseAt(deps, places, plan, request);
    const id = newSnapshotId(startedAt);
    nameRun(id);
    const givesWay = lock.whenWanted?.();
    const limit = withLimit(deps.settings.timeoutMs);
    const signal = AbortSignal.any([request.signal, limit.signal, ...(givesWay ? [givesWay] : [])]);
    const { trigger } = request;
    const journal = new Journal(deps.journals, { type: 'start', verb: 'drill', id, trigger, agent: deps.agentId });
    const results: DrillResult[] = [];
    const unproven: string[] = [];
    const earlier = () => earlierDrills(deps, () => placeOfEvidence(deps, places), signal);
    const { sources } = plan;
    const run: Run = { id, startedAt, journal, places, plan: sources, earlier, signal, until: limit.until, unproven };
    try {
      try {
        if (request.stack) await drillStack(deps, request, run, { wanted, tests: smokeTests(plan), results });
        else for (const one of wanted) if (!signal.aborted) results.push(await drillOne(deps, request, run, one));
        const names = wanted.map(({ source }) => source);
        const missed = unreached(names, results, run);
        for (const { source } of missed) await noteTurn(deps, source, 'missed');
        results.push(...missed);
      } finally {
        limit.clear();
        await deps.clear(path.join(deps.spool, id), id);
      }
      const report = reportOf(deps, request, { results, end: ended() }, run);
      await conclude(deps, report, () => placeOfEvidence(deps, places));
      return report;
    } finally {
      // Last: until it is reported, only the journal shows the next start that there was a drill.
      await journal.close();
    }
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

/** Chooses the sources by what the first place that can be read holds. Throws like {@link choose}. */
async function chooseAt(deps: DrillDeps, places: Places, plan: Plan, request: DrillRequest): Promise<Wanted[]> {
  for (;;) {
    try {
      const wanted = await choose(deps, places.repository, plan, request);
      return request.sources.length > 0 ? wanted : await inTurn(deps.state.directory, wanted);
    } catch (error) {
      if (!(await places.leave(errorInfo(error), request.signal))) throw error;
    }
  }
}

/** Returns the dependencies for the drill of a stack, whose restored servers share the memory of one. */
function sharingMemory(deps: DrillDeps, wanted: readonly Wanted[], plan: Run['plan']): DrillDeps {
  const isFiles = ({ source }: Wanted) =>
    ['volume', 'files'].includes(kindOf(plan.find(({ name }) => name === source)));
  const servers = wanted.filter((one) => !isFiles(one)).length;
  const memory = Math.max(LEAST_MEMORY, Math.floor(deps.settings.memory / Math.max(1, servers)));
  return { ...deps, settings: { ...deps.settings, memory: Math.min(memory, deps.settings.memory) } };
}

/** So much memory each restored server of a stack may use at least, bytes. */
const LEAST_MEMORY = 512 * 1024 ** 2;

/**
 * Restores all sources at the same time: each drill waits, with its data restored, until those after it and the smoke
 * tests are over. Adds the results in this order.
 */
async function drillStack(
  deps: DrillDeps,
  request: DrillRequest,
  run: Run,
  {
    wanted,
    tests,
    results,
  }: { wanted: readonly Wanted[]; tests: ReturnType<typeof smokeTests>; results: DrillResult[] },
): Promise<void> {
  // A smoke test starts a whole application, which needs what it needs, however many servers there are.
  const shared = sharingMemory(deps, wanted, run.plan);
  const ups: Up[] = [];
  let isTested = false;
  const testAll = async () => {
    isTested = true;
    try {
      const tested = await runSmokeTests(deps, tests, { ...run, ups, say: request.say });
      run.signal.throwIfAborted();
      results.push(tested);
    } catch (error) {
      if (!run.signal.aborted) throw error;
      // The data was restored and compared, whatever ends the tests.
      const why = run.signal.reason as unknown;
      const status = hasCode(why, 'INTERRUPTED') ? 'interrupted' : 'failed';
      const nothing = { place: '', steps: [], checks: [], notes: [] };
      results.push({ source: 'stack', kind: 'stack', status, ...nothing, error: errorInfo(why) });
    }
  };
  const next = async (at: number): Promise<void> => {
    const one = wanted[at];
    if (one === undefined) return testAll();
    // The drill of the whole stack ends at once: nothing is left to test.
    if (run.signal.aborted) return;
    const planned = run.plan.find(({ name }) => name === one.source);
    results.push(
      await drillOne(shared, request, run, {
        ...one,
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
  const why = cutBy(results, signal);
  const isLate = why !== undefined && why.code !== 'INTERRUPTED';
  const isEarly = has('interrupted');
  const status = has('failed') || isLate ? 'failed' : isEarly ? 'interrupted' : has('unproven') ? 'unproven' : 'ok';
  return redactDeep({
    ...{ id, project: deps.project, trigger, ...(by === undefined ? {} : { by }) },
    ...(Object.keys(asked).length === 0 ? {} : { asked }),
    ...{ start: startedAt.toISOString(), end: end.toISOString(), status, agentVersion: deps.agentVersion },
    results: results.map((one) => ({ ...one, ...judgeTargets(one, plan, asked) })),
    ...{ unproven, ...(why ? { error: why } : {}) },
  });
}

/** Returns why the drill ended early. A signal that came while a drill only cleaned up has cut nothing off. */
function cutBy(results: readonly DrillResult[], signal: AbortSignal): ErrorInfo | undefined {
  if (!signal.aborted) return undefined;
  const why = errorInfo(signal.reason);
  const isCut = results.some(({ status, error }) => status === 'interrupted' || error?.message === why.message);
  return isCut ? why : undefined;
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
