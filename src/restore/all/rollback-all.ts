import { type ErrorInfo, errorInfo, LifeboatError } from '../../base/errors.ts';
import { nameRun } from '../../base/log.ts';
import { createdNotes } from '../../kept/created.ts';
import { type Described, madeAgo, replacedText } from '../../kept/describe.ts';
import { refuseOlder } from '../../kept/last-unkept.ts';
import { refuseOutOfTurn } from '../../kept/order.ts';
import { withoutSaving } from '../../kept/unrecorded.ts';
import { isHalfRestored } from '../../kept/volumes.ts';
import type { PlannedSource } from '../../plan/model.ts';
import type { RestoreReport, RestoreStart } from '../../report/events.ts';
import { ALL_SOURCES } from '../../report/restore-text.ts';
import { Journal } from '../../run/journal.ts';
import type { Rollback } from '../../run/state.ts';
import { startTimer } from '../../run/timer.ts';
import type { Clients } from '../../sources/postgres/facts/clients.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import type { RestoreDeps } from '../context.ts';
import { endJournals } from '../end-journal.ts';
import { conclude, whileInPlace } from '../finish.ts';
import { lockForRestore } from '../lock.ts';
import { emptyReport } from '../part.ts';
import { inCopy, noteLines, replacedLines, serviceLines, summariseServices } from '../preview.ts';
import type { RollbackRequest, RollbackResult } from '../rollback.ts';
import { type KeptData, withServer, withVolume } from '../rollback-data.ts';
import { reportHealth } from '../service-health.ts';
import { containersUsing, NO_SERVICES, type Services, serviceNotes, withServersLast } from '../services.ts';

/** One restore of the group. */
interface Part {
  record: Rollback;
  journal: Journal;
  start: RestoreStart;
  planned: PlannedSource;
  clients?: Clients | undefined;
  described: Described[];
}

/** A rollback of a restore of all sources in progress. */
interface Whole {
  deps: RestoreDeps;
  request: RollbackRequest;
  report: RestoreReport;
  parts: Part[];
  failed: { target: string; error: ErrorInfo }[];
  /** the error of a volume that nothing may use now */
  half?: unknown;
  journals: Journal[];
}

/**
 * Brings back the data that a restore of all sources replaced, with the services stopped once. The same command
 * reverses that. A source that fails is reported, and the others are rolled back.
 *
 * @throws NOT_CONFIRMED; the first error of a source if none could be rolled back
 */
export async function rollbackAll(
  given: RestoreDeps,
  request: RollbackRequest,
  group: string,
): Promise<RollbackResult> {
  await refuseOlder(given, request, { group });
  const deps = request.dryRun ? withoutSaving(given) : given;
  const lock = await lockForRestore(deps, { ask: request.canConfirm && !request.dryRun, check: async () => undefined });
  try {
    await deps.recover();
    // The recovery may have found that a newer restore was cut off.
    await refuseOlder(deps, request, { group });
    const startedAt = deps.now();
    const ended = startTimer(deps.now, startedAt);
    const members = (await deps.state.rollbacks()).filter((one) => one.group === group);
    const restored = members.filter(({ inUse }) => inUse === 'restored');
    const chosen = restored.length > 0 ? restored.toReversed() : members;
    // As in a restore of all sources, the last journal records the stops.
    const ids = [...chosen, ALL_SOURCES].map(() => newSnapshotId(startedAt)).sort();
    const id = ids.pop() as string;
    nameRun(id);
    const base = { project: deps.project, verb: 'rollback' as const, start: startedAt.toISOString() };
    const about = { id, source: ALL_SOURCES, target: ALL_SOURCES };
    const start: RestoreStart = { ...base, ...about, snapshot: chosen[0]?.snapshot ?? group };
    const report: RestoreReport = { ...emptyReport(deps, start, []), of: group };
    const whole: Whole = { deps, request, report, parts: [], failed: [], journals: [] };
    try {
      for (const [i, record] of chosen.entries()) {
        const { source, snapshot } = record;
        const own = { ...base, id: ids[i] as string, source, target: source, snapshot };
        await ofOne(whole, source, () => inspect(whole, record, own));
      }
      const services = await ask(whole, group, restored.length > 0);
      const result = (): RollbackResult => ({ ...report, preview: previewOfAll(whole, services) });
      if (request.dryRun) {
        if (whole.failed.length === 0) return result();
        Object.assign(report, { status: 'partial', failed: whole.failed, error: errorInfo(failure(whole)) });
        return result();
      }
      const journal = openJournal(whole, id);
      deps.dispatcher.emit({ type: 'restore-started', restore: start });
      const ending = await perform(whole, services, journal).then(
        () => undefined,
        (reason: unknown) => (request.signal.aborted && !isHalfRestored(reason) ? request.signal.reason : reason),
      );
      if (whole.failed.length > 0) report.failed = whole.failed;
      const error = ending === undefined ? undefined : whileInPlace(ending, report, unreached(whole));
      const why = error ?? (whole.failed.length > 0 ? failure(whole) : undefined);
      await conclude({ ...deps, ended, journal, signal: request.signal }, deps.repository, report, why);
      if (error !== undefined || (why !== undefined && report.restored.length === 0)) throw why;
      return result();
    } finally {
      await endJournals(deps, whole.journals, request.signal);
    }
  } finally {
    await lock.release();
  }
}

/** Returns the sources that an early end of the rollback left as they were. */
function unreached({ parts, report, failed }: Whole): string[] {
  const isDone = (source: string) =>
    report.restored.some(({ target }) => target.startsWith(`${source}: `)) ||
    failed.some(({ target }) => target === source);
  return parts.flatMap(({ record: { source } }) => (isDone(source) ? [] : [source]));
}

/** Runs a step of one source. A failure excludes only that source. @throws the reason of an interruption */
async function ofOne(whole: Whole, source: string, work: () => Promise<void>): Promise<void> {
  const { signal } = whole.request;
  if (signal.aborted) throw whole.half ?? signal.reason;
  try {
    await work();
  } catch (error) {
    if (signal.aborted && !isHalfRestored(error)) throw whole.half ?? signal.reason;
    whole.failed.push({ target: source, error: errorInfo(error) });
  }
}

function openJournal({ deps, journals, report }: Whole, id: string): Journal {
  const start = { type: 'start' as const, verb: 'restore' as const, id, group: report.id, agent: deps.agentId };
  const journal = new Journal(deps.journals, start);
  journals.push(journal);
  return journal;
}

/** Checks that one source can be rolled back. Changes nothing. */
async function inspect(whole: Whole, record: Rollback, start: RestoreStart): Promise<void> {
  const { deps, request, parts } = whole;
  const journal = openJournal(whole, start.id);
  await withKept(deps, request, { record, journal, id: start.id }, async (kept) => {
    const missing = await kept.refresh();
    const all = (await deps.state.rollbacks()).filter(({ id }) => !missing.has(id) || id === record.id);
    // The data may be swapped already, or gone.
    const now = all.find(({ id }) => id === record.id);
    if (now?.inUse !== record.inUse) throw changed(record, now);
    refuseOutOfTurn(now, all);
    await kept.check(now);
    const [clients, described] = [await kept.clients?.(now), await kept.describe(now)];
    parts.push({ record: now, journal, start, planned: kept.planned, clients, described });
  });
}

function previewOfAll({ parts }: Whole, services: Services): RollbackResult['preview'] {
  return { ...summariseServices(services), replaces: replacedBy(parts) };
}

function replacedBy(parts: readonly Part[]): RollbackResult['preview']['replaces'] {
  return parts.flatMap(({ record, described }) => replacedText(record, described));
}

/** Shows what the rollback does, and asks for confirmation. @returns the services to stop */
async function ask(whole: Whole, group: string, isRestored: boolean): Promise<Services> {
  const { deps, request, report, parts, failed } = whole;
  const [first] = parts;
  if (!first) throw failed.length > 0 ? failure(whole) : nothing(group);
  const data = parts.map(({ planned, clients }) => ({ target: planned, clients }));
  const services = request.stopServices ? await containersUsing(deps.engine, data, deps.agentId) : NO_SERVICES;
  const now = isRestored ? 'the data from before that restore' : 'the restored data';
  const names = parts.map(({ record }) => record.source).join(', ');
  request.say(
    `Rollback of ${names}${inCopy(deps)}: brings back ${now} (${madeAgo({ id: group, at: first.record.at }, deps.now())})`,
  );
  for (const line of replacedLines(request, replacedBy(parts), first.record)) request.say(line);
  for (const { target, error } of failed) request.say(`  ${target} stays as it is: ${error.message} (${error.code})`);
  for (const line of serviceLines(services, { will: request.dryRun ? 'would' : 'will' })) request.say(line);
  const created = isRestored ? createdNotes(parts.map(({ record }) => record)) : [];
  for (const line of noteLines(created)) request.say(line);
  report.warnings.push(...serviceNotes(services), ...created);
  if (request.dryRun) return services;
  await request.confirm(deps.project);
  for (const { journal, start, record } of parts) {
    journal.record({ type: 'begun', restore: start, from: { id: record.id, inUse: record.inUse } });
  }
  return services;
}

async function perform(whole: Whole, services: Services, journal: Journal): Promise<void> {
  const { deps, request, report, parts } = whole;
  const noteHalf = (error: unknown) => {
    if (isHalfRestored(error)) whole.half ??= error;
    throw error;
  };
  const swap = async (kind: 'postgres' | 'volume') => {
    for (const part of parts.filter(({ planned }) => planned.kind === kind))
      await ofOne(whole, part.record.source, () => swapOne(whole, part).catch(noteHalf));
    if (kind === 'volume' && whole.half !== undefined) throw whole.half;
  };
  const { checks, stoppedMs } = await withServersLast({
    services,
    servers: parts.flatMap(({ planned }) => (planned.kind === 'postgres' ? [planned.containerId] : [])),
    deps: deps.holdDeps(journal),
    signal: request.signal,
    databases: () => swap('postgres'),
    volumes: () => swap('volume'),
  });
  report.checks.push(...checks);
  if (stoppedMs !== undefined) report.stoppedMs = stoppedMs;
  const replaced = parts.map(({ planned }) => planned);
  await reportHealth(deps, { replaced, healthUrl: request.healthUrl }, request.signal, report);
}

async function withKept<T>(
  deps: RestoreDeps,
  request: RollbackRequest,
  { record, journal, id }: { record: Rollback; journal: Journal; id: string },
  work: (kept: KeptData) => Promise<T>,
): Promise<T> {
  const open = record.volume ? withVolume : withServer;
  return open({ deps, request, journal, id }, record, work);
}

async function swapOne({ deps, request, report }: Whole, { record, journal, start }: Part): Promise<void> {
  await withKept(deps, request, { record, journal, id: start.id }, async (kept) => {
    const { swapMs, restored, canRollBack, warnings } = await kept.swap(record);
    if (swapMs !== undefined) report.withoutDataMs = Math.max(report.withoutDataMs ?? 0, Math.round(swapMs));
    report.restored.push(...restored.map((item) => ({ ...item, target: `${record.source}: ${item.target}` })));
    report.canRollBack ||= canRollBack;
    report.warnings.push(...warnings);
  });
}

function failure({ failed }: Whole): LifeboatError {
  const [first] = failed;
  const names = failed.map(({ target }) => target).join(', ');
  return new LifeboatError(
    first?.error.code ?? 'INTERNAL',
    `could not be rolled back: ${names}: ${first?.error.message}`,
    {
      hint: first?.error.hint ?? 'They are unchanged.',
    },
  );
}

/** Returns the error for a source whose record was wrong: another command or a person has changed its data. */
function changed({ id, source }: Rollback, now: Rollback | undefined): LifeboatError {
  const what = now ? 'is swapped already' : 'is gone';
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `the data of restore ${id} of ${source} ${what}`, {
    hint: now ? `To swap it again: \`lifeboat rollback ${id}\`.` : 'Restore a snapshot instead.',
  });
}

function nothing(group: string): LifeboatError {
  return new LifeboatError('NOTHING_TO_ROLL_BACK', `no data of restore ${group} is put aside any more`);
}
