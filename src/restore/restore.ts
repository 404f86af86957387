import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import { presentName } from '../kept/target.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { formatAgo } from '../report/format.ts';
import { Journal } from '../run/journal.ts';
import { startTimer } from '../run/timer.ts';
import { heldAt } from '../store/objects/manifest.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import type {
  PreparedRestore,
  RestoreContext,
  RestoreDeps,
  Restored,
  RestoreRequest,
  RestoreResult,
} from './context.ts';
import { prepareDatabases } from './database.ts';
import { endJournal } from './end-journal.ts';
import { findSnapshot } from './find.ts';
import { conclude } from './finish.ts';
import { lockForRestore } from './lock.ts';
import { previewLines } from './preview.ts';
import { warningsFor } from './recorded-warnings.ts';
import { takeSafetySnapshot } from './safety.ts';
import { answersWell, containersUsing, withStopped } from './services.ts';
import { prepareVolume } from './volume.ts';

/**
 * Restores data from a snapshot, with the steps of backup.ts in reverse: resolve → preview → confirm → fetch → safety snapshot → stop →
 * load alongside, compare, swap → start → check → report. Replaces no data before the new data is complete and equal to the record. The
 * replaced data stays.
 *
 * @throws SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, SIGNATURE_*, CHAIN_BROKEN, KEY_MISSING, KEY_WRONG, NOT_CONFIRMED, PG_TARGET_EXISTS,
 * PG_TARGET_BUSY, PG_NO_SPACE, TREE_TARGET_NOT_EMPTY, all before anything changes. RESTORE_UNHEALTHY is in the report: the data is
 * restored, and a service that uses it is not healthy.
 */
export async function restore(deps: RestoreDeps, request: RestoreRequest): Promise<RestoreResult> {
  const isInPlace = !request.toDatabase && !request.toDirectory && !request.as;
  const ask = !request.dryRun && (request.canConfirm || !isInPlace);
  const lock = await lockForRestore(deps, { ask, check: () => findReadable(deps, request) });
  const startedAt = deps.now();
  const ended = startTimer(deps.now, startedAt);
  try {
    await deps.recover();
    const { repository, snapshot, entry, notes } = await findReadable(deps, request);
    request.say(`Restore ${request.source} from ${snapshot.id} (${formatAgo(new Date(heldAt(snapshot)), startedAt)})`);
    for (const note of notes) request.say(`  ${note}`);
    for (const warning of warningsFor(entry, request.database)) request.say(`  warning, recorded then: ${warning}`);
    const id = newSnapshotId(startedAt);
    const start: RestoreStart = {
      id,
      project: deps.project,
      verb: 'restore',
      source: request.source,
      target: request.toDirectory ?? request.to ?? request.source,
      snapshot: snapshot.id,
      start: startedAt.toISOString(),
    };
    const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId });
    const directory = path.join(deps.spool, id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const progress: RestoreContext['progress'] = (update) =>
        deps.dispatcher.emit({ type: 'progress', progress: { source: request.source, ...update } });
      return await attempt(
        { ...deps, ended },
        request,
        { id, journal, directory, progress, repository, snapshot, entry },
        start,
      );
    } finally {
      // Recovery removes what cannot be removed now. The journal ends in either case.
      await deps.clear(directory, id);
      await endJournal(deps, journal);
    }
  } finally {
    await lock.release();
  }
}

/** Finds the snapshot, and checks that the keys for its objects are there. Throws like {@link findSnapshot}; KEY_MISSING. */
async function findReadable(deps: RestoreDeps, request: RestoreRequest) {
  const repository = await deps.repository();
  const storedAs = request.snapshot === 'latest' ? await presentName(deps.plan, request.source) : undefined;
  const found = await findSnapshot(repository, { ...request, storedAs });
  const { index, facts, packs } = found.entry;
  requireKeys([index, facts, ...packs], repository.keys);
  return { repository, ...found };
}

/** `ended`: returns when the restore ends, if it ends now. */
type TimedDeps = RestoreDeps & { ended(): Date };

async function attempt(
  deps: TimedDeps,
  request: RestoreRequest,
  context: RestoreContext,
  start: RestoreStart,
): Promise<RestoreResult> {
  const prepared = await prepare(deps, request, context);
  try {
    const { preview } = prepared;
    const services = await servicesToStop(deps, request, prepared);
    const safety = request.safety && !deps.otherRepository;
    for (const line of previewLines({ ...request, safety }, preview, services)) request.say(line);
    const report = emptyReport(deps, start, [...services.notes]);
    const nothing = preview.replaces.length === 0 && preview.creates.length === 0;
    if (request.dryRun || nothing) return { ...report, left: preview.left, durationMs: 0 };
    if (preview.replaces.length > 0) await request.confirm(preview.target?.name ?? request.source);
    context.journal.record({ type: 'begun', restore: start });
    deps.dispatcher.emit({ type: 'restore-started', restore: start });
    const error = await perform(deps, request, context, { prepared, services: services.using, report });
    report.warnings.push(...journalWarnings(context.journal, report));
    return await finish(deps, context, { report, left: preview.left }, error);
  } finally {
    await prepared.close();
  }
}

function prepare(deps: RestoreDeps, request: RestoreRequest, context: RestoreContext): Promise<PreparedRestore> {
  const isDatabase = context.entry.kind === 'postgres';
  return isDatabase ? prepareDatabases(deps, request, context) : prepareVolume(deps, request, context);
}

/** Runs the steps that change something, and fills the report. Resolves to the error that ended them, if any. */
async function perform(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  { prepared, services, report }: { prepared: PreparedRestore; services: Services['using']; report: RestoreReport },
): Promise<unknown> {
  const { preview } = prepared;
  const step = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const begin = performance.now();
    try {
      return await work();
    } finally {
      report.steps.push({ name, durationMs: Math.round(performance.now() - begin) });
    }
  };
  const keep = async (kept: Parameters<Parameters<PreparedRestore['load']>[0]>[0]) => {
    const target = preview.target?.name ?? request.source;
    const rest = (await deps.state.rollbacks()).filter(({ id }) => id !== context.id);
    const safety = report.safety === undefined ? {} : { safety: report.safety };
    const rollback = { id: context.id, at: report.start, source: target, snapshot: context.snapshot.id, ...safety };
    // None: the only database that was about to be put aside kept its name, or the volume is as it was.
    const none = !kept.volume && !kept.databases?.length;
    await deps.state.saveRollbacks(none ? rest : [...rest, { ...rollback, inUse: 'restored', ...kept }]);
    report.canRollBack = !none;
  };
  const load = async () => {
    noteLoaded(report, await step('restore', () => prepared.load(keep)));
    if (report.failed) request.signal.throwIfAborted();
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
    if (services.length === 0) await load();
    else {
      request.say(`  stopping ${services.map(({ name }) => name).join(', ')}`);
      const held = deps.holdDeps(context.journal);
      const ran = await step('with services stopped', () =>
        withStopped({ containers: services, deps: held, signal: request.signal, work: load }),
      );
      report.checks.push(...ran.checks);
    }
    const { healthUrl } = request;
    if (healthUrl) report.checks.push(await step('ask', () => answersWell(healthUrl, request.signal)));
    return undefined;
  } catch (error) {
    return request.signal.aborted && !isHalfRestored(error) ? request.signal.reason : error;
  }
}

/** Fills the report at once: the data is in place, whatever fails later. */
function noteLoaded(report: RestoreReport, { restored, warnings, withoutDataMs, ...more }: Restored): void {
  report.restored = restored;
  report.warnings.push(...warnings);
  report.steps.push(...(more.steps ?? []));
  if (withoutDataMs !== undefined) report.withoutDataMs = Math.round(withoutDataMs);
  if (more.skipped && more.skipped.length > 0) report.skipped = more.skipped;
  if (!more.failed || more.failed.length === 0) return;
  report.failed = more.failed;
  report.canRollBack &&= restored.some(({ kept }) => kept !== undefined);
}

interface Services {
  using: Awaited<ReturnType<typeof containersUsing>>['using'];
  notes: string[];
}

async function servicesToStop(
  deps: RestoreDeps,
  request: RestoreRequest,
  { preview }: PreparedRestore,
): Promise<Services> {
  if (!preview.target || preview.replaces.length === 0 || !request.stopServices) return { using: [], notes: [] };
  const { using, kept } = await containersUsing(deps.engine, preview.target, deps.agentId);
  return { using, notes: kept.map(({ name, reason }) => `${name} is not stopped: ${reason}`) };
}

function emptyReport(deps: RestoreDeps, start: RestoreStart, warnings: string[]): RestoreReport {
  const end = deps.now().toISOString();
  return { ...start, end, status: 'ok', restored: [], steps: [], checks: [], canRollBack: false, warnings };
}

/** Warns if the spool was full after the swap. The restore is complete, and only the journal lacks entries. */
function journalWarnings({ unwritten }: RestoreContext['journal'], { id, canRollBack }: RestoreReport): string[] {
  if (unwritten === undefined) return [];
  const { message } = toLifeboatError(unwritten);
  const back = canRollBack ? `; \`lifeboat rollback ${id}\` can bring the former data back` : '';
  return [`the journal of this restore could not be completed: ${message}. The restored data is in place${back}`];
}

/** Describes an error after the swap, such as an interrupt while services start. The restore must not be repeated. */
function whileInPlace(error: unknown, { id, canRollBack, restored, failed = [] }: RestoreReport): LifeboatError {
  const own = toLifeboatError(error);
  const back = canRollBack ? `; \`lifeboat rollback ${id}\` brings the former data back` : '';
  const list = (items: readonly { target: string }[]) => items.map(({ target }) => target).join(', ');
  const where =
    failed.length === 0
      ? 'The restored data is in place, complete'
      : `${list(restored)}: the restored data is in place, complete. ${list(failed)}: unchanged`;
  return new LifeboatError(own.code, own.message, {
    cause: own.cause,
    hint: `${where}${back}. Check that all services that use it run.`,
  });
}

/** Stores the record and notifies. @throws the error that ended the restore */
async function finish(
  deps: TimedDeps,
  { repository }: RestoreContext,
  { report, left }: { report: RestoreReport; left: RestoreResult['left'] },
  error: unknown,
): Promise<RestoreResult> {
  const failure = error !== undefined && report.restored.length > 0 ? whileInPlace(error, report) : error;
  await conclude(deps, async () => repository, report, failure);
  if (failure !== undefined) throw failure;
  return { ...report, left, durationMs: Date.parse(report.end) - Date.parse(report.start) };
}
