import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { LifeboatError, toLifeboatError } from '../base/errors.ts';
import { isHalfRestored } from '../kept/volumes.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { formatAgo } from '../report/format.ts';
import { Journal } from '../run/journal.ts';
import { heldAt } from '../store/objects/manifest.ts';
import { newSnapshotId } from '../store/objects/snapshot-id.ts';
import { putPin } from '../store/repository/pins.ts';
import { holdsDatabase } from '../store/repository/stored-databases.ts';
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
import { previewLines } from './preview.ts';
import { answersWell, containersUsing, withStopped } from './services.ts';
import { prepareVolume } from './volume.ts';

/**
 * The line of backup.ts backwards: resolve → look → ask → fetch → safety → stop → load beside, compare, swap → start →
 * check → report. Nothing is replaced before everything that goes in its place is there and equal to the record, and what
 * was replaced stays.
 *
 * Errors before anything was touched: SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN, SIGNATURE_*, CHAIN_BROKEN, KEY_MISSING, KEY_WRONG, NOT_CONFIRMED,
 * PG_TARGET_EXISTS, PG_TARGET_BUSY, PG_NO_SPACE, TREE_TARGET_NOT_EMPTY. RESTORE_UNHEALTHY in the report: the data is back, what uses it is not well.
 */
export async function restore(deps: RestoreDeps, request: RestoreRequest): Promise<RestoreResult> {
  const lock = await deps.lock({ ask: !request.dryRun });
  const startedAt = deps.now();
  try {
    await deps.recover();
    const repository = await deps.repository();
    const seen = deps.otherRepository ? undefined : await deps.state.chainEnd(deps.project);
    const { snapshot, entry, notes } = await findSnapshot(repository, { ...request, seen });
    requireKeys([entry.index, entry.facts, ...entry.packs], repository.keys);
    request.say(`Restore ${request.source} from ${snapshot.id} (${formatAgo(new Date(heldAt(snapshot)), startedAt)})`);
    for (const note of notes) request.say(`  ${note}`);
    for (const warning of entry.warnings) request.say(`  warning, recorded then: ${warning}`);
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
      return await attempt(deps, request, { id, journal, directory, progress, repository, snapshot, entry }, start);
    } finally {
      // What cannot be removed is left to recovery, and the journal ends all the same.
      await deps.clear(directory, id);
      await endJournal(deps, journal);
    }
  } finally {
    await lock.release();
  }
}

async function attempt(
  deps: RestoreDeps,
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
    return await finish(deps, context, { report, left: preview.left }, error);
  } finally {
    await prepared.close();
  }
}

function prepare(deps: RestoreDeps, request: RestoreRequest, context: RestoreContext): Promise<PreparedRestore> {
  const isDatabase = context.entry.kind === 'postgres';
  return isDatabase ? prepareDatabases(deps, request, context) : prepareVolume(deps, request, context);
}

/** Everything that changes something. Fills the report as it goes; resolves to what ended it, if something did. */
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
    // None any more: the only one that was about to be put aside has its name still.
    const none = kept.databases?.length === 0;
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
        safetySnapshot(deps, request, context, { target, databases }),
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

/** At once: whatever fails from here on, the data is in place. */
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

/** Stores what will be replaced, and pins it. */
async function safetySnapshot(
  deps: RestoreDeps,
  request: RestoreRequest,
  { repository, id }: RestoreContext,
  { target, databases }: { target: string; databases: readonly string[] },
): Promise<string> {
  request.say(`  taking a safety snapshot of ${target}`);
  const run = await deps.safetyBackup(target, request.signal);
  const failed = run.results.find(({ name }) => name === target)?.error ?? run.error;
  if (run.snapshot === undefined) {
    throw new LifeboatError(failed?.code ?? 'INTERNAL', `no safety snapshot could be taken: ${failed?.message}`, {
      hint: 'Nothing was changed. When the present data is too broken to back up, --no-safety goes on without: a rollback then has only what is kept beside.',
    });
  }
  const missing = databases.length === 0 ? [] : await notIn(repository, run.snapshot, target, databases);
  if (missing.length > 0) {
    throw new LifeboatError('PG_DATABASE_UNKNOWN', `the safety snapshot does not hold ${missing.join(', ')}`, {
      hint: `${failed ? `${failed.message}.` : 'It is closed, or the labels leave it out of backups.'} Nothing was changed; --no-safety goes on without: a rollback then has only what is kept beside.`,
    });
  }
  const at = deps.now().toISOString();
  await putPin(repository, run.snapshot, { reason: `before restore ${id}`, at });
  request.say(`  safety snapshot ${run.snapshot} is stored and pinned`);
  return run.snapshot;
}

/** Those of some databases that a snapshot does not hold: a run stores what it can, and leaves others out as asked. */
async function notIn(
  repository: RestoreContext['repository'],
  snapshot: string,
  source: string,
  databases: readonly string[],
): Promise<string[]> {
  const { snapshots } = await repository.snapshots();
  const entry = snapshots.find(({ manifest }) => manifest.id === snapshot)?.manifest.sources[source];
  return databases.filter((name) => !entry || !holdsDatabase(entry, name));
}

function emptyReport(deps: RestoreDeps, start: RestoreStart, warnings: string[]): RestoreReport {
  const end = deps.now().toISOString();
  return { ...start, end, status: 'ok', restored: [], steps: [], checks: [], canRollBack: false, warnings };
}

/** What went wrong after the swap, such as a stop while services were waited for: whoever reads it must not try again. */
function whileInPlace(error: unknown, { id, canRollBack, restored, failed = [] }: RestoreReport): LifeboatError {
  const own = toLifeboatError(error);
  const back = canRollBack ? `; \`lifeboat rollback ${id}\` brings the former data back` : '';
  const list = (items: readonly { target: string }[]) => items.map(({ target }) => target).join(', ');
  const where =
    failed.length === 0
      ? 'The restored data is in place, complete'
      : `${list(restored)}: the restored data is in place, complete. ${list(failed)}: as it was`;
  return new LifeboatError(own.code, own.message, {
    cause: own.cause,
    hint: `${where}${back}. Look whether everything that uses it runs.`,
  });
}

/** Stores the record and tells. Throws what ended the restore. */
async function finish(
  deps: RestoreDeps,
  { repository }: RestoreContext,
  { report, left }: { report: RestoreReport; left: RestoreResult['left'] },
  error: unknown,
): Promise<RestoreResult> {
  const failure = error !== undefined && report.restored.length > 0 ? whileInPlace(error, report) : error;
  await conclude(deps, async () => repository, report, failure);
  if (failure !== undefined) throw failure;
  return { ...report, left, durationMs: Date.parse(report.end) - Date.parse(report.start) };
}
