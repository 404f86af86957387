import { toLifeboatError } from '../base/errors.ts';
import { nameRun } from '../base/log.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { PlannedSource } from '../plan/model.ts';
import type { RestoreReport } from '../report/events.ts';
import { formatAgo } from '../report/format.ts';
import { runRestoredHooks } from '../run/restored-hooks.ts';
import { startTimer } from '../run/timer.ts';
import { heldAt } from '../store/objects/manifest.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import type { PreparedRestore, RestoreContext, RestoreDeps, RestoreRequest, RestoreResult } from './context.ts';
import { conclude, whileInPlace } from './finish.ts';
import { lockForRestore } from './lock.ts';
import { emptyReport, findReadable, type Opened, openPart, prepare, swapPart, timed } from './part.ts';
import { copyLines, liveNotes, nameToConfirm, previewLines, summarise } from './preview.ts';
import { warningsFor } from './recorded-warnings.ts';
import { takeSafetySnapshot } from './safety.ts';
import { reportHealth } from './service-health.ts';
import { containersUsing, NO_SERVICES, type Services, serviceNotes, withStopped } from './services.ts';

/**
 * Restores data from a snapshot, with the steps of backup.ts in reverse: resolve → preview → confirm → fetch → safety
 * snapshot → stop → build alongside, compare → swap → start → check → report. With `live`, the build comes before the
 * stop. Replaces no data before the new data is complete and equal to the record. The replaced data stays.
 *
 * @throws SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, SIGNATURE_*, CHAIN_BROKEN, KEY_MISSING, KEY_WRONG, NOT_CONFIRMED,
 * PG_TARGET_EXISTS, PG_TARGET_BUSY, PG_NO_SPACE, TREE_TARGET_NOT_EMPTY, all before anything changes. RESTORE_UNHEALTHY
 * is in the report: the data is restored, and a service that uses it is not healthy.
 */
export async function restore(deps: RestoreDeps, request: RestoreRequest): Promise<RestoreResult> {
  const ask = !request.dryRun && (request.canConfirm || !isInPlace(request));
  const lock = await lockForRestore(deps, { ask, check: () => findReadable(deps, request) });
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  try {
    await deps.recover();
    const { repository, snapshot, entry, packs, notes } = await findReadable(deps, request);
    request.say(`Restore ${request.source} from ${snapshot.id} (${formatAgo(new Date(heldAt(snapshot)), startedAt)})`);
    for (const note of notes) request.say(`  ${note}`);
    for (const warning of warningsFor(entry, request.database)) request.say(`  warning, recorded then: ${warning}`);
    const id = newSnapshotId(startedAt);
    nameRun(id);
    const opened = await openPart(deps, request, { repository, snapshot, entry, packs }, { id, startedAt });
    try {
      return await carryOut({ ...deps, ended }, request, opened, (context) => prepare(deps, request, context));
    } finally {
      await opened.close();
    }
  } finally {
    await lock.release();
  }
}

/** `ended`: returns the end time of the restore if it ends now. */
type TimedDeps = RestoreDeps & { ended(): Date };

/**
 * Carries out the steps of a restore, from its preparation to its report. Throws like {@link restore}.
 *
 * @param preparing inspects the target, and changes nothing
 */
export async function carryOut(
  deps: TimedDeps,
  request: RestoreRequest,
  { context, start }: Opened,
  preparing: (context: RestoreContext) => Promise<PreparedRestore>,
): Promise<RestoreResult> {
  const prepared = await preparing(context);
  try {
    const { preview } = prepared;
    const services = await servicesToStop(deps, request, prepared);
    const safety = request.safety && !deps.otherRepository;
    preview.notes.push(...liveNotes(request, services));
    const lines = [...copyLines(deps), ...previewLines({ ...request, safety }, preview, services)];
    for (const line of lines) request.say(line);
    const report = {
      ...emptyReport(deps, start, serviceNotes(services)),
      ...(request.live && { live: true as const }),
    };
    const nothing = preview.replaces.length === 0 && preview.creates.length === 0;
    const shown = { left: preview.left, preview: summarise(preview, services) };
    if (request.dryRun || nothing) return { ...report, ...shown, durationMs: 0 };
    const name = nameToConfirm(deps, preview.target?.name ?? request.source);
    if (preview.replaces.length > 0) await request.confirm(name);
    context.journal.record({ type: 'begun', restore: start });
    deps.dispatcher.emit({ type: 'restore-started', restore: start });
    const begun = performance.now();
    const error = await perform(deps, request, context, { prepared, report });
    report.workMs = Math.round(performance.now() - begun);
    if (isWhole(request) && preview.left.length === 0) report.whole = [request.source];
    report.warnings.push(...journalWarnings(context.journal, report));
    return await finish({ ...deps, signal: request.signal }, context, { report, shown }, error);
  } finally {
    await prepared.close();
  }
}

/** Runs the steps that change something, and fills the report. Resolves to the error that ended them, if any. */
async function perform(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  { prepared, report }: { prepared: PreparedRestore; report: RestoreReport },
): Promise<unknown> {
  const { preview } = prepared;
  const step = <T>(name: string, work: () => Promise<T>) => timed(report, name, work);
  const build = async () => {
    if (prepared.build) await step('build', prepared.build);
  };
  try {
    if (prepared.fetch) await step('fetch', prepared.fetch);
    if (preview.replaces.length > 0 && request.safety && !deps.otherRepository) {
      const databases = preview.target?.kind === 'postgres' ? preview.replaces.map(({ name }) => name) : [];
      const target = preview.target?.name ?? request.source;
      report.safety = await step('safety snapshot', () =>
        takeSafetySnapshot({ deps, request, context }, { target, databases }),
      );
    }
    if (request.live) await build();
    const work = async () => {
      if (!request.live) await build();
      await step('swap', () => swapPart(deps, request, context, { prepared, report }));
      request.signal.throwIfAborted();
    };
    await whileStopped(deps, request, context, { prepared, report, work });
    if (prepared.look) report.checks.push(...(await step('look', prepared.look)));
    const { healthUrl, signal } = request;
    const replaced = replacedSources(request, prepared, report);
    if (replaced.length > 0) report.checks.push(...(await runRestoredHooks(deps, replaced, signal, report.warnings)));
    await reportHealth(deps, { replaced, healthUrl }, signal, report);
    return undefined;
  } catch (error) {
    return request.signal.aborted && !isHalfRestored(error) ? request.signal.reason : error;
  }
}

/** Stops the services that use the data now, not those of the preview: hours may have passed since. */
async function whileStopped(
  deps: RestoreDeps,
  request: RestoreRequest,
  { journal }: RestoreContext,
  { prepared, report, work }: { prepared: PreparedRestore; report: RestoreReport; work: () => Promise<void> },
): Promise<void> {
  const services = await servicesToStop(deps, request, prepared);
  report.warnings.push(...serviceNotes(services).filter((note) => !report.warnings.includes(note)));
  const { using } = services;
  if (using.length === 0) return work();
  const { target, dataDirectory } = prepared.preview;
  const needed = target?.kind === 'postgres' && !dataDirectory ? [target.containerId] : [];
  request.say(`  stopping ${using.map(({ name }) => name).join(', ')}`);
  const { checks, stoppedMs } = await timed(report, 'with services stopped', () =>
    withStopped({ containers: using, deps: deps.holdDeps(journal), signal: request.signal, work, needed }),
  );
  report.checks.push(...checks);
  if (stoppedMs !== undefined) report.stoppedMs = stoppedMs;
}

/**
 * Returns the source whose data services use as restored now. The data may not have existed before, as after a dropped
 * database. Data under another name concerns no service.
 */
function replacedSources(
  request: RestoreRequest,
  { preview: { target } }: PreparedRestore,
  report: RestoreReport,
): PlannedSource[] {
  return target && isInPlace(request) && report.restored.length > 0 ? [target] : [];
}

/** Returns whether data is restored under the name that it had. */
function isInPlace({ toDatabase, toDirectory, as }: RestoreRequest): boolean {
  return !toDatabase && !toDirectory && !as;
}

/** Returns whether everything of a source is restored in its place. */
function isWhole(request: RestoreRequest): boolean {
  const { database, to, tables, paths } = request;
  return isInPlace(request) && database === undefined && to === undefined && tables.length + paths.length === 0;
}

async function servicesToStop(
  deps: RestoreDeps,
  request: RestoreRequest,
  { preview: { target, dataDirectory, replaces }, clients }: PreparedRestore,
): Promise<Services> {
  if (!target || replaces.length === 0 || !request.stopServices) return NO_SERVICES;
  const data = [...(dataDirectory ? [{ target: dataDirectory }] : []), { target, clients: await clients?.() }];
  return containersUsing(deps.engine, data, deps.agentId);
}

/** Warns if the spool was full after the swap. The restore is complete, and only the journal lacks entries. */
function journalWarnings({ unwritten }: RestoreContext['journal'], { id, canRollBack }: RestoreReport): string[] {
  if (unwritten === undefined) return [];
  const { message } = toLifeboatError(unwritten);
  const back = canRollBack ? `; \`lifeboat rollback ${id}\` can bring the old data back` : '';
  return [`the journal of this restore could not be completed: ${message}. The restored data is in place${back}`];
}

/** Stores the record and notifies. @throws the error that ended the restore */
async function finish(
  deps: TimedDeps & { signal: AbortSignal },
  { repository, journal }: RestoreContext,
  { report, shown }: { report: RestoreReport; shown: Pick<RestoreResult, 'left' | 'preview'> },
  error: unknown,
): Promise<RestoreResult> {
  const failure = error === undefined ? undefined : whileInPlace(error, report);
  await conclude({ ...deps, journal }, async () => repository, report, failure);
  if (failure !== undefined) throw failure;
  return { ...report, ...shown, durationMs: Date.parse(report.end) - Date.parse(report.start) };
}
