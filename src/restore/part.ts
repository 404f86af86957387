import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo } from '../base/errors.ts';
import { refuseForeignData, rememberVolumes } from '../kept/copy-data.ts';
import { recordCreated } from '../kept/created.ts';
import { noteLast } from '../kept/last-unkept.ts';
import { presentName } from '../kept/target.ts';
import type { RestoreReport, RestoreStart } from '../report/events.ts';
import { Journal } from '../run/journal.ts';
import { saveRestored } from '../run/restored.ts';
import { quoteIdentifier } from '../sources/postgres/server/quote.ts';
import type { Manifest, ManifestSource } from '../store/objects/manifest.ts';
import type { PackRef } from '../store/packs/pack-stream.ts';
import { readPacks } from '../store/repository/pack-lists.ts';
import type { Repository } from '../store/repository/repository.ts';
import { requireKeys } from '../store/seal/encryption.ts';
import type { KeptRecord, PreparedRestore, RestoreContext, RestoreDeps, Restored, RestoreRequest } from './context.ts';
import { prepareDatabases } from './database.ts';
import { endJournals } from './end-journal.ts';
import { findSnapshot } from './find.ts';
import { prepareVolume } from './volume.ts';

/** The steps of restoring one source. A restore of one source and a restore of all sources share them. */

/** The input of a restore: a snapshot, and its entry for the source. */
interface Readable {
  repository: Repository;
  snapshot: Manifest;
  entry: ManifestSource;
  /** the packs of the entry */
  packs: PackRef[];
}

/**
 * Finds the snapshot, and checks that the keys for its objects are there. Throws like {@link findSnapshot};
 * KEY_MISSING; OBJECT_MISSING or OBJECT_DAMAGED for the list of its packs.
 */
export async function findReadable(
  deps: Pick<RestoreDeps, 'repository' | 'plan'>,
  request: RestoreRequest,
): Promise<Readable & { notes: string[] }> {
  const repository = await deps.repository();
  const storedAs = request.snapshot === 'latest' ? await presentName(deps.plan, request.source) : undefined;
  const found = await findSnapshot(repository, { ...request, storedAs });
  const { index, facts } = found.entry;
  const packs = await readPacks(repository, found.entry, request.signal);
  requireKeys([index, facts, ...packs], repository.keys);
  return { repository, ...found, packs };
}

/** A restore of one source with its journal and its directory in the spool. */
export interface Opened {
  context: RestoreContext;
  start: RestoreStart;
  /** Clears the directory, and leaves the journal open. */
  clear(): Promise<void>;
  /** Clears the directory and ends the journal. */
  close(): Promise<void>;
}

/**
 * Opens the journal and the directory of one source's restore.
 *
 * @param group id of the restore of all sources that it belongs to, if any
 */
export async function openPart(
  deps: RestoreDeps,
  request: RestoreRequest,
  { repository, snapshot, entry, packs }: Readable,
  { id, group, startedAt }: { id: string; group?: string; startedAt: Date },
): Promise<Opened> {
  const start: RestoreStart = {
    id,
    project: deps.project,
    verb: 'restore',
    source: request.source,
    target: request.toDirectory ?? request.to ?? request.source,
    snapshot: snapshot.id,
    start: startedAt.toISOString(),
  };
  const own = group === undefined ? {} : { group };
  const journal = new Journal(deps.journals, { type: 'start', verb: 'restore', id, agent: deps.agentId, ...own });
  const directory = path.join(deps.spool, id);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const progress: RestoreContext['progress'] = (update) =>
    deps.dispatcher.emit({ type: 'progress', progress: { source: request.source, ...update } });
  // Recovery removes what cannot be removed now. The journal ends in either case.
  const clear = () => deps.clear(directory, id);
  return {
    context: { id, ...own, journal, directory, progress, repository, snapshot, entry, packs },
    start,
    clear,
    async close() {
      await clear();
      await endJournals(deps, [journal], request.signal);
    },
  };
}

/** Inspects the target of a restore. Changes nothing. */
export async function prepare(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
): Promise<PreparedRestore> {
  if (deps.isCopy) {
    const { sources } = await deps.plan();
    const planned = sources.find(({ name }) => name === (request.to ?? request.source));
    // Without a source, the preparation says what is missing.
    if (planned) await refuseForeignData(deps, planned, request);
  }
  const isDatabase = context.entry.kind === 'postgres';
  return isDatabase ? prepareDatabases(deps, request, context) : prepareVolume(deps, request, context);
}

/** Runs a step, and adds its duration to a report. */
export async function timed<T>(report: RestoreReport, name: string, work: () => Promise<T>): Promise<T> {
  const begin = performance.now();
  try {
    return await work();
  } finally {
    report.steps.push({ name, durationMs: Math.round(performance.now() - begin) });
  }
}

/**
 * Puts the data of one source in place. Records how to roll it back before anything is put aside, and fills its report.
 */
export async function swapPart(
  deps: RestoreDeps,
  request: RestoreRequest,
  context: RestoreContext,
  { prepared, report }: { prepared: PreparedRestore; report: RestoreReport },
): Promise<void> {
  const keep = async (kept: KeptRecord) => {
    const rest = (await deps.state.rollbacks()).filter(({ id }) => id !== context.id);
    const safety = report.safety === undefined ? {} : { safety: report.safety };
    const group = context.group === undefined ? {} : { group: context.group };
    const rollback = {
      id: context.id,
      ...group,
      at: report.start,
      source: target,
      snapshot: context.snapshot.id,
      ...safety,
    };
    // Nothing is put aside if the only database kept its name, or the volume keeps its data.
    const none = !kept.volume && !kept.databases?.length;
    await deps.state.saveRollbacks(none ? rest : [...rest, { ...rollback, inUse: 'restored', ...kept }]);
    report.canRollBack = !none;
  };
  const target = prepared.preview.target?.name ?? request.source;
  // Hours may have passed since the preparation.
  const volumes = await refuseForeignData(deps, prepared.preview.target, request);
  if (deps.isCopy) await rememberVolumes(deps.state.directory, volumes);
  await saveRestored(deps.state.directory, target, undefined);
  const done = await prepared.swap(keep);
  noteLoaded(report, done);
  if (done.system !== undefined && request.database === undefined && !report.failed && !report.skipped)
    await saveRestored(deps.state.directory, target, { snapshot: context.snapshot.id, system: done.system }).catch(
      (error: unknown) => deps.log.warn('the agent cannot record the restore', { ...errorInfo(error) }),
    );
  if (!report.canRollBack) Object.assign(report, undoOf(prepared, done));
  // The records of a group name what all of its sources created. A restore to a directory is none of data in use.
  if (context.group === undefined && prepared.preview.target) await noteDone(deps, report);
  // Without replaced data, nothing in use was unavailable.
  if (prepared.preview.replaces.length === 0) delete report.withoutDataMs;
}

/** Says how to undo a restore that put nothing aside. Nobody knows which files of a volume to delete. */
function undoOf({ preview: { target } }: PreparedRestore, { undo, restored }: Restored): Pick<RestoreReport, 'undo'> {
  if (undo !== undefined) return { undo };
  if (target?.kind !== 'postgres' || restored.length === 0) return {};
  return { undo: dropAll(restored) };
}

/** Returns the statements that drop restored databases. */
export function dropAll(databases: readonly { target: string }[]): string {
  return databases.map(({ target }) => `DROP DATABASE ${quoteIdentifier(target)}`).join('; ');
}

/**
 * Records what a restore created, and whether it can be rolled back. The data is in place, so a record that cannot be
 * saved is not a failure.
 */
export async function noteDone({ state, log }: Pick<RestoreDeps, 'state' | 'log'>, report: RestoreReport) {
  const work = recordCreated(state, report.id, report.restored).then(() => noteLast(state, report));
  await work.catch((error: unknown) =>
    log.warn('the agent cannot record which data the restore created', { ...errorInfo(error) }),
  );
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

/** Returns the report of a restore or rollback that has changed nothing yet. */
export function emptyReport(deps: Pick<RestoreDeps, 'now'>, start: RestoreStart, warnings: string[]): RestoreReport {
  const end = deps.now().toISOString();
  return { ...start, end, status: 'ok', restored: [], steps: [], checks: [], canRollBack: false, warnings };
}
