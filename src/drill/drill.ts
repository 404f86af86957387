import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, hasCode, LifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { PlannedSource, PostgresSource } from '../plan/model.ts';
import type { DrillReport, DrillResult } from '../report/drill-report.ts';
import { formatAgo, formatDuration } from '../report/format.ts';
import type { RestoreContext } from '../restore/context.ts';
import { findSnapshot } from '../restore/find.ts';
import { Journal } from '../run/journal.ts';
import { startTimer } from '../run/timer.ts';
import { heldAt } from '../store/objects/manifest.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import { type DrillDeps, type DrillRequest, equal, type Part } from './context.ts';
import { chooseImage } from './drill-server.ts';
import { countDrills, putDrill } from './evidence.ts';
import { drillPoint, type FoundPoint, findPoint } from './point-drill.ts';
import { drillDatabases } from './postgres-drill.ts';
import { drillFiles } from './volume-drill.ts';

/** A drill in progress. */
interface Run {
  id: string;
  startedAt: Date;
  journal: Journal;
  repository: Repository;
  plan: readonly PlannedSource[];
  /** how many drills came before */
  turn: number;
  signal: AbortSignal;
}

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
    const repository = await deps.repository();
    const { sources: plan } = await deps.plan();
    const names = await choose(repository, plan, request);
    const id = newSnapshotId(startedAt);
    const wanted = lock.whenWanted?.();
    const limit = withLimit(deps.settings.timeoutMs);
    const signal = AbortSignal.any([request.signal, limit.signal, ...(wanted ? [wanted] : [])]);
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    const results: DrillResult[] = [];
    try {
      const turn = await countDrills(repository);
      const run: Run = { id, startedAt, journal, repository, plan, turn, signal };
      for (const name of names) if (!signal.aborted) results.push(await drillOne(deps, request, run, name));
    } finally {
      limit.clear();
      await deps.clear(path.join(deps.spool, id), id);
      await journal.close();
    }
    const report = reportOf(deps, request, { id, startedAt, end: ended(), results, signal });
    await conclude(deps, repository, report);
    return report;
  } finally {
    await lock.release();
  }
}

/** Returns a signal that aborts with DRILL_FAILED after that time. */
function withLimit(timeoutMs: number): { signal: AbortSignal; clear(): void } {
  const over = new AbortController();
  const why = new LifeboatError('DRILL_FAILED', `the drill took longer than ${formatDuration(timeoutMs)}`, {
    hint: 'LIFEBOAT_DRILL_TIMEOUT sets how long it may take.',
  });
  const timer = setTimeout(() => over.abort(why), timeoutMs);
  return { signal: over.signal, clear: () => clearTimeout(timer) };
}

/** Returns the sources to drill. @throws SOURCE_UNKNOWN */
async function choose(
  repository: Repository,
  plan: readonly PlannedSource[],
  { sources, snapshot, signal }: DrillRequest,
): Promise<string[]> {
  if (sources.length > 0) return [...new Set(sources)];
  if (snapshot !== 'latest') {
    const { manifest } = await repository.resolve(snapshot);
    return Object.entries(manifest.sources).flatMap(([name, { status, kind }]) =>
      status === 'failed' || kind === 'base' ? [] : [name],
    );
  }
  if (plan.length > 0) return plan.map(({ name }) => name);
  const { snapshots } = await repository.snapshots(signal);
  const stored = Object.entries(snapshots[0]?.manifest.sources ?? {}).filter(([, { kind }]) => kind !== 'base');
  if (stored.length > 0) return stored.map(([name]) => name);
  throw new LifeboatError('SOURCE_UNKNOWN', 'there is no snapshot, so there is nothing to drill');
}

async function drillOne(deps: DrillDeps, request: DrillRequest, run: Run, source: string): Promise<DrillResult> {
  const planned = run.plan.find(({ name }) => name === source);
  const kind = planned?.kind === undefined || planned.kind === 'base' ? 'postgres' : planned.kind;
  const place = run.repository.destination.name;
  const result: DrillResult = { source, kind, status: 'ok', place, steps: [], checks: [], notes: [] };
  try {
    const server = serverOfBase(source, planned, request);
    const found = server === undefined ? undefined : await findPoint(deps, { ...request, server }, Math.random());
    const context = await open(deps, request, run, { result, found });
    const part = { source, planned, context, result, log: deps.log, signal: run.signal, say: request.say };
    if (await isReadable(part)) {
      await mkdir(context.directory, { recursive: true, mode: 0o700 });
      if (found && server) await drillPoint(deps, part, { ...found, server, planned: serverIn(run.plan, server) });
      else if (context.entry.kind === 'postgres') await drillDatabases(deps, part);
      else await drillFiles(deps, part, run.turn);
    }
  } catch (error) {
    const why = run.signal.aborted ? run.signal.reason : error;
    result.status = hasCode(why, 'INTERRUPTED') ? 'interrupted' : 'failed';
    result.error = errorInfo(why);
  }
  if (result.checks.some((check) => check.result === 'failed')) result.status = 'failed';
  return result;
}

/** Returns the server whose recovery to a point in time is asked for; undefined for any other drill. */
function serverOfBase(source: string, planned: PlannedSource | undefined, { aim }: DrillRequest): string | undefined {
  if (planned?.kind === 'base') return planned.server;
  return aim === undefined ? undefined : source;
}

function serverIn(plan: readonly PlannedSource[], server: string): PostgresSource | undefined {
  return plan.find((one): one is PostgresSource => one.kind === 'postgres' && one.name === server);
}

/**
 * Finds the snapshot, and fills the result with what it is. Throws like {@link findSnapshot}.
 *
 * @param found the point of a recovery, whose base backup is the snapshot
 */
async function open(
  deps: DrillDeps,
  request: DrillRequest,
  { id, journal, repository, startedAt, signal }: Run,
  { result, found }: { result: DrillResult; found: FoundPoint | undefined },
): Promise<RestoreContext> {
  const { source } = result;
  const { snapshot, entry, notes } = found
    ? { ...found.start, notes: [] }
    : await findSnapshot(repository, { ...request, source, lookOnly: true, signal });
  // What is lost is what came after the end of the stored write-ahead log.
  const held = found?.start.window.to ?? heldAt(snapshot);
  const ageMs = Math.max(0, startedAt.getTime() - Date.parse(held));
  Object.assign(result, { snapshot: snapshot.id, heldAt: held, ageMs });
  if (entry.kind !== 'base') result.kind = entry.kind;
  result.notes.push(...notes);
  if (found) result.image = await chooseImage(deps.engine, entry.image, undefined);
  request.say(`Drill of ${source} from ${snapshot.id} (${formatAgo(new Date(held), startedAt)})`);
  const packs = await readPacks(repository, entry, signal);
  const directory = path.join(deps.spool, id, source);
  return { id, journal, directory, progress: () => undefined, repository, snapshot, entry, packs };
}

/**
 * Checks what needs no key: that the objects of the snapshot are there, whole. Resolves to whether there is a key for
 * the rest. If not, the result is unproven.
 */
async function isReadable({ source, context, result }: Part): Promise<boolean> {
  const { entry, packs, repository } = context;
  const objects = [entry.index, entry.facts, ...packs].filter((one) => one !== undefined);
  try {
    requireKeys(objects, repository.keys);
    return true;
  } catch (error) {
    if (!hasCode(error, 'KEY_MISSING')) throw error;
    await repository.checkObjects(objects);
    result.checks.push(equal('objects that are there, with their sizes', source, objects.length, objects.length));
    Object.assign(result, { status: 'unproven', error: errorInfo(error) });
    return false;
  }
}

function reportOf(
  deps: DrillDeps,
  { trigger, by }: DrillRequest,
  {
    id,
    startedAt,
    end,
    results,
    signal,
  }: { results: DrillResult[]; end: Date } & Pick<Run, 'id' | 'startedAt' | 'signal'>,
): DrillReport {
  const has = (status: DrillResult['status']) => results.some((one) => one.status === status);
  const isEarly = has('interrupted') || hasCode(signal.reason, 'INTERRUPTED');
  const isLate = signal.aborted && !isEarly;
  const status = has('failed') || isLate ? 'failed' : isEarly ? 'interrupted' : has('unproven') ? 'unproven' : 'ok';
  const unproven = results.flatMap((one) =>
    one.status === 'unproven' ? [`the content of ${one.source}: no key to decrypt it is set`] : [],
  );
  return redactDeep({
    ...{ id, project: deps.project, trigger, ...(by === undefined ? {} : { by }) },
    ...{ start: startedAt.toISOString(), end: end.toISOString(), status, agentVersion: deps.agentVersion },
    ...{ results, unproven, ...(signal.aborted ? { error: errorInfo(signal.reason) } : {}) },
  });
}

/** Stores the evidence and notifies. The result of the drill stays the same if the evidence cannot be stored. */
async function conclude(deps: DrillDeps, repository: Repository, report: DrillReport): Promise<void> {
  try {
    await putDrill(repository, report);
  } catch (error) {
    deps.log.warn('the evidence of the drill could not be stored', { drill: report.id, ...errorInfo(error) });
    report.unproven.push(`the evidence of this drill could not be stored: ${errorInfo(error).message}`);
  }
  deps.dispatcher.emit({ type: 'drill-finished', report });
  await deps.dispatcher.flush();
}
