import { errorInfo } from '../../base/errors.ts';
import { nameRun } from '../../base/log.ts';
import { isHalfRestored } from '../../kept/volumes.ts';
import type { RestoreStart } from '../../report/events.ts';
import { ALL_SOURCES, SOME_SOURCES } from '../../report/restore-text.ts';
import { Journal } from '../../run/journal.ts';
import { runRestoredHooks } from '../../run/restored-hooks.ts';
import { startTimer } from '../../run/timer.ts';
import { newSnapshotId } from '../../store/objects/snapshot-id.ts';
import type { RestoreDeps, RestoreRequest, RestoreResult } from '../context.ts';
import { endJournals } from '../end-journal.ts';
import { conclude, whileInPlace } from '../finish.ts';
import { lockForRestore } from '../lock.ts';
import { emptyReport, findReadable, noteDone, openPart, prepare, swapPart, timed } from '../part.ts';
import { takeSafetySnapshots } from '../safety.ts';
import { reportHealth } from '../service-health.ts';
import {
  containersUsing,
  NO_SERVICES,
  type Services,
  serviceNotes,
  type UsedData,
  withServersLast,
} from '../services.ts';
import {
  active,
  closeData,
  ofOne,
  type Part,
  refuseBeyondSpool,
  refuseSharedVolumes,
  replaces,
  type Whole,
} from './parts.ts';
import { combine, describe, failure, showPreview } from './report.ts';
import { chooseSources, type Unchanged } from './sources.ts';

/**
 * Restores all sources of the project, or those that `only` selects: prepares each as {@link restore} does, asks for
 * confirmation once, stops the services once, swaps databases and then volumes, and starts the services once. With
 * `live`, all data is built before the stop. Each source has its own journal and its own record for a rollback. The
 * group's id rolls all of them back. A source that fails stays unchanged and is reported. The others are restored.
 *
 * @throws NOT_CONFIRMED, SNAPSHOT_UNKNOWN, SOURCE_UNKNOWN; the first error of a source if nothing could be restored
 */
export async function restoreAll(deps: RestoreDeps, request: RestoreRequest): Promise<RestoreResult> {
  const ask = !request.dryRun && request.canConfirm;
  const lock = await lockForRestore(deps, { ask, check: () => chooseSources(deps, request) });
  try {
    await deps.recover();
    const startedAt = deps.now();
    const ended = startTimer(deps.now, startedAt);
    const { names, unchanged } = await chooseSources(deps, request);
    // Recovery reads journals in the order of their ids. The group's journal, which records the stops, must come last.
    const ids = [...names, ALL_SOURCES].map(() => newSnapshotId(startedAt)).sort();
    const group = ids.pop() as string;
    nameRun(group);
    const what = request.only ? SOME_SOURCES : ALL_SOURCES;
    const base = { project: deps.project, verb: 'restore' as const, snapshot: request.snapshot };
    const start: RestoreStart = {
      ...base,
      id: group,
      source: what,
      target: what,
      start: startedAt.toISOString(),
    };
    const journal = new Journal(deps.journals, {
      ...{ type: 'start', verb: 'restore', id: group, group, agent: deps.agentId },
    });
    const whole: Whole = {
      deps,
      request,
      report: { ...emptyReport(deps, start, []), ...(request.live && { live: true as const }) },
      parts: [],
      opened: [],
      failed: [],
      journal,
      startedAt,
      ended,
    };
    try {
      for (const [i, name] of names.entries()) {
        await ofOne(whole, name, () => preparePart(whole, { ...request, source: name }, ids[i] as string));
      }
      return await attempt(whole, start, unchanged);
    } finally {
      await closeAll(whole);
    }
  } finally {
    await lock.release();
  }
}

/** Ends the journals of the sources, and the journal of the group, whose end may start containers. */
async function closeAll({ deps, request, parts, opened, journal }: Whole): Promise<void> {
  for (const part of parts) {
    await closeData(part).catch((error: unknown) => deps.log.warn('a session did not close', { ...errorInfo(error) }));
  }
  for (const one of opened) await one.clear();
  await endJournals(deps, [...opened.map(({ context }) => context.journal), journal], request.signal);
}

async function preparePart(
  { deps, parts, opened: all, report, startedAt }: Whole,
  request: RestoreRequest,
  id: string,
): Promise<void> {
  const { notes, ...found } = await findReadable(deps, request);
  const opened = await openPart(deps, request, found, { id, group: report.id, startedAt });
  all.push(opened);
  const prepared = await prepare(deps, request, opened.context);
  parts.push({ request, opened, prepared, report: emptyReport(deps, opened.start, []) });
  for (const note of notes) request.say(`${request.source}: ${note}`);
}

async function attempt(whole: Whole, start: RestoreStart, unchanged: Unchanged[]): Promise<RestoreResult> {
  const { deps, request, report, failed } = whole;
  refuseSharedVolumes(whole);
  refuseBeyondSpool(whole);
  const services = await servicesToStop(whole);
  const parts = active(whole);
  showPreview(whole, unchanged, services);
  report.warnings.push(...serviceNotes(services));
  const snapshots = [...new Set(parts.map(({ opened }) => opened.context.snapshot.id))].sort();
  if (snapshots.length === 1) start.snapshot = report.snapshot = snapshots[0] as string;
  if (snapshots.length > 1) report.warnings.push(`the sources are from different snapshots: ${snapshots.join(', ')}`);
  const result = (): RestoreResult => ({ ...report, ...describe(whole, parts, unchanged, services) });
  if (request.dryRun || parts.length === 0) {
    if (failed.length === 0) return result();
    if (parts.length === 0) throw failure(whole);
    Object.assign(report, { status: 'partial', failed, error: errorInfo(failure(whole)) });
    return result();
  }
  if (parts.some(replaces)) await request.confirm(deps.project);
  for (const { opened } of parts) opened.context.journal.record({ type: 'begun', restore: opened.start });
  deps.dispatcher.emit({ type: 'restore-started', restore: start });
  const begun = performance.now();
  const ending = await perform(whole).then(
    () => undefined,
    (reason: unknown) => (request.signal.aborted && !isHalfRestored(reason) ? request.signal.reason : reason),
  );
  report.workMs = Math.round(performance.now() - begun);
  const done = active(whole).filter((part) => part.report.restored.length > 0 && !part.report.failed);
  report.whole = done.map(({ request: own }) => own.source);
  combine(whole);
  await noteDone(deps, report);
  const error = ending === undefined ? undefined : whileInPlace(ending, report, unreached(whole));
  const why = error ?? (failed.length > 0 ? failure(whole) : undefined);
  const { ended, journal } = whole;
  await conclude({ ...deps, ended, journal, signal: request.signal }, deps.repository, report, why);
  if (error !== undefined || (why !== undefined && report.restored.length === 0)) throw why;
  return result();
}

/** Returns the sources that an early end of the restore left as they were. */
function unreached(whole: Whole): string[] {
  return active(whole).flatMap(({ request, report }) => (report.restored.length === 0 ? [request.source] : []));
}

async function servicesToStop(whole: Whole): Promise<Services> {
  const { deps, request } = whole;
  if (!request.stopServices) return NO_SERVICES;
  const data: UsedData[] = [];
  for (const part of active(whole).filter(replaces)) {
    const { preview, clients } = part.prepared;
    const { target } = preview;
    if (target)
      await ofOne(whole, part.request.source, async () => void data.push({ target, clients: await clients?.() }));
  }
  return data.length === 0 ? NO_SERVICES : containersUsing(deps.engine, data, deps.agentId);
}

/** Runs the steps that change something. */
async function perform(whole: Whole): Promise<void> {
  const { deps, request, report } = whole;
  const step = <T>(name: string, work: () => Promise<T>) => timed(report, name, work);
  await step('fetch', async () => {
    for (const { request: own, prepared } of active(whole)) {
      if (prepared.fetch) await ofOne(whole, own.source, prepared.fetch);
    }
  });
  if (request.safety && !deps.otherRepository) await step('safety snapshot', () => protect(whole));
  const build = () =>
    step('build', async () => {
      for (const { request: own, prepared } of active(whole)) {
        if (prepared.build) await ofOne(whole, own.source, prepared.build);
      }
    });
  if (request.live) await build();
  await swapAll(whole, request.live ? async () => undefined : build);
  const done = active(whole).filter((part) => part.report.restored.length > 0);
  const replaced = done.flatMap(({ prepared: { preview } }) => preview.target ?? []);
  report.checks.push(...(await runRestoredHooks(deps, replaced, request.signal, report.warnings)));
  const questions = { replaced, healthUrl: request.healthUrl };
  await reportHealth(deps, questions, request.signal, report);
}

/**
 * Stops the services that use the data now, which may differ from those of the preview, and swaps all data.
 *
 * @param build what is left to build while the services are stopped
 */
async function swapAll(whole: Whole, build: () => Promise<void>): Promise<void> {
  const { deps, request, report } = whole;
  const services = await servicesToStop(whole);
  report.warnings.push(...serviceNotes(services).filter((note) => !report.warnings.includes(note)));
  const swap = async (kind: 'postgres' | 'volume') => {
    const parts = active(whole).filter(({ opened }) => opened.context.entry.kind === kind);
    if (parts.length === 0) return;
    await timed(report, kind === 'postgres' ? 'swap databases' : 'swap volumes', async () => {
      for (const { request: own, opened, prepared, report: one } of parts)
        await ofOne(whole, own.source, () => swapPart(deps, own, opened.context, { prepared, report: one }));
    });
  };
  const databases = whole.parts.filter(({ opened }) => opened.context.entry.kind === 'postgres');
  const serverOf = ({ prepared: { preview } }: Part) => preview.target?.containerId;
  if (services.using.length > 0) request.say(`  stopping ${services.using.map(({ name }) => name).join(', ')}`);
  const { checks, stoppedMs } = await timed(report, 'with services stopped', () =>
    withServersLast({
      services,
      servers: databases.flatMap((part) => serverOf(part) ?? []),
      deps: deps.holdDeps(whole.journal),
      signal: request.signal,
      async databases() {
        await build();
        await swap('postgres');
        // Servers that use a volume are stopped next. The sessions on the others are closed after the outage.
        for (const part of databases) if (services.using.some(({ id }) => id === serverOf(part))) await closeData(part);
      },
      async volumes() {
        await swap('volume');
        if (whole.half !== undefined) throw whole.half;
      },
    }),
  );
  report.checks.push(...checks);
  if (stoppedMs !== undefined) report.stoppedMs = stoppedMs;
}

/**
 * Stores all data that the restore replaces as one pinned snapshot. Excludes sources that the snapshot does not hold.
 */
async function protect(whole: Whole): Promise<void> {
  const { deps, request, report } = whole;
  const parts = active(whole).filter(replaces);
  const targets = parts.map(({ request: own, prepared: { preview } }) => ({
    target: preview.target?.name ?? own.source,
    databases: preview.target?.kind === 'postgres' ? preview.replaces.map(({ name }) => name) : [],
  }));
  const [first] = parts;
  if (!first) return;
  const context = { ...first.opened.context, id: report.id };
  const taken = await takeSafetySnapshots({ deps, request, context }, targets);
  for (const part of parts) {
    const why = taken.failed.get(part.prepared.preview.target?.name ?? part.request.source);
    if (why) await ofOne(whole, part.request.source, () => Promise.reject(why));
    else part.report.safety = taken.snapshot;
  }
  report.safety = taken.snapshot;
}
