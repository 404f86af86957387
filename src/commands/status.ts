import { errorOf } from '../backup/others.ts';
import { type ErrorInfo, errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { spoolProblems } from '../check/foresee.ts';
import { heldProblems, heldServices } from '../daemon/held-services.ts';
import { keptLines } from '../kept/list.ts';
import type { Plan } from '../plan/model.ts';
import { copyStateLines } from '../report/copy-text.ts';
import type { RunReport } from '../report/events.ts';
import { formatAgo, formatWhen, oneLine } from '../report/format.ts';
import type { Paint } from '../report/paint.ts';
import { detailLines, problemLines, withoutRepeated } from '../report/problem-text.ts';
import { PRUNE, retentionLines } from '../report/prune-text.ts';
import { headline, nextRun, nextTry } from '../report/text.ts';
import { withoutAccepted } from '../report/tries.ts';
import { lastGoodOf, lastGoodReport } from '../run/history.ts';
import { SPOOL } from '../run/mounts.ts';
import { knownPlaces } from '../run/remembered.ts';
import { listSourceStatuses, type SourceStatus } from '../run/source-status.ts';
import type { UnderWay } from '../run/under-way.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { findOtherProjects, otherProjectsText } from '../store/repository/other-projects.ts';
import { withListsOf } from '../store/repository/pack-lists.ts';
import type { SnapshotList } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { readTargets, type SourceTargets } from '../targets/collect.ts';
import { leftSlotProblems } from '../wal/left-slots.ts';
import { openReceiverMemory } from '../wal/receiver-state.ts';
import { type Call, print } from './call.ts';
import { damageProblems, renderSourceStatuses, targetLines } from './status-text.ts';
import { readWindows, windowLines } from './windows.ts';

/** `lifeboat status`: shows each source by its own newest result, whichever sources the last run covered. */
export async function status(call: Call): Promise<number> {
  const { app } = call;
  const [{ state }, now] = [app, new Date()];
  const [run, plan] = [await state.lastRun(), await app.plan()];
  const found = await lookAtDestination(call, plan);
  const { manifests, damaged, problem } = found;
  const { timeZone: zone } = app.settings;
  const [results, accepted] = await Promise.all([state.results(), state.accepted()]);
  const last = run && withoutAccepted(run, accepted);
  const places = await knownPlaces(state.directory).catch(() => ({}));
  const damagedKeys = found.objects;
  const all = listSourceStatuses({ plan, manifests, results, accepted, places, damaged: damagedKeys, zone, now });
  const [next, underWay] = [app.nextRun(plan).toISOString(), await app.runsUnderWay()];
  const running = runningNow(underWay);
  // A retry in progress is noted too, in case it dies.
  const retryAt = running ? undefined : (await state.retries()).map(({ at }) => at).sort()[0];
  const kept = await app.listKept(plan);
  const services = await heldServices(app.journals, underWay);
  const recoverable = problem ? [] : await readWindows(call, app.found ? plan : undefined);
  const [copies, slots] = [await copyStates(call), await slotProblems(call)];
  const targets = await targetsOf(call, plan, found, now);
  const doubts = [...(await spoolProblems(SPOOL)), ...slots, ...damageProblems(all, damagedKeys)];
  print(
    call,
    {
      project: app.project,
      running,
      last: last ?? null,
      nextRun: next,
      sources: all.map((source) => toRow(source, targets)),
      destination: { name: app.destination.name, ...destinationView(found) },
      copies,
      ...(recoverable.length > 0 ? { windows: recoverable } : {}),
      snapshots: manifests.length,
      restores: kept.restores,
      strayAreas: kept.stray,
      held: services,
      problems: doubts,
    },
    () =>
      [
        ...(running ? [`Running: ${runningText(underWay, { now, zone }) ?? running}`] : []),
        ...(last ? lastRunHead(last, now) : noRunLines(found, all)),
        ...destinationLines(found),
        ...renderSourceStatuses(all, { now, paint: call.io.paint, unread: problem !== undefined }),
        ...targetLines(targets, now, call.io.paint),
        ...doubts.flatMap((problem) => problemLines(problem, call.io.paint)),
        ...(last ? lastRunLines(last, all.map(errorOf), call.io.paint) : []),
        ...recoverable.flatMap((one) => windowLines(one, now)),
        ...copyStateLines(copies, now, call.io.paint),
        ...heldProblems(services).flatMap((problem) => problemLines(problem, call.io.paint)),
        ...keptLines(kept, now),
        ...(retryAt ? [nextTry(retryAt, { now, zone })] : []),
        nextRun(next, { now, zone }),
      ].join('\n'),
  );
  const behind =
    hasMissed(targets) || damaged.length > 0 || copies.some(({ behindSince }) => behindSince !== undefined);
  return exitStatusOf(found, { last, all, troubled: behind || services.length > 0 || doubts.length > 0 });
}

function exitStatusOf(
  { problem, manifests }: Found,
  { last, all, troubled }: { last: RunReport | undefined; all: readonly SourceStatus[]; troubled: boolean },
): number {
  if (problem || last?.status === 'failed') return EXIT.failed;
  const allGood = all.length > 0 && all.every(({ attention }) => attention === null);
  if (!last && !troubled && isUncovered(manifests, all)) return EXIT.nothing;
  return (last?.status ?? 'ok') === 'ok' && allGood && !troubled ? EXIT.done : EXIT.partial;
}

/** Returns whether no run has covered a source. */
function isUncovered(manifests: readonly Manifest[], all: readonly SourceStatus[]): boolean {
  return manifests.length === 0 && all.every(({ attention }) => attention === 'never');
}

function lastRunHead(last: RunReport, now: Date): string[] {
  const { error } = last;
  const why = error ? ` · ${oneLine(error.message)} (${error.code})` : '';
  const head = `Last run ${formatAgo(new Date(last.end), now)}: ${headline(last)}${why}`;
  return [head, ...detailLines(error ?? {}).map((line) => `  ${line}`)];
}

/** Says why no last run is shown. Without the state in the spool, the snapshots still show what earlier runs stored. */
function noRunLines({ manifests, others }: Found, all: readonly SourceStatus[]): string[] {
  if (manifests.length > 0 || all.some(({ last }) => last !== undefined))
    return ['The last run is unknown: /spool is new or was full.'];
  return ['No run yet.', ...(others === undefined ? [] : [`${others}.`])];
}

/** Returns the replication slots that no source needs any more. Without the spool, none is known. */
async function slotProblems({ app }: Call) {
  const memory = openReceiverMemory(app.state.directory);
  return leftSlotProblems(await memory.slots().catch(() => []));
}

async function copyStates({ app }: Call) {
  const known = await app.state.copies();
  return app.settings.copies.map(({ name }) => ({ name, ...known[name] }));
}

/** Judges the targets. Without the destination, the snapshots that the daemon remembers count. */
function targetsOf({ app }: Call, plan: Plan, { problem, manifests }: Found, now: Date): Promise<SourceTargets[]> {
  return readTargets({ plan, directory: app.state.directory, manifests: problem ? undefined : manifests }, now);
}

function hasMissed(all: readonly SourceTargets[]): boolean {
  return all.some(({ targets }) => targets.some(({ met }) => met === false));
}

/** A source as `status --json` shows it. */
function toRow({ name, attention, last, lastGood, missing }: SourceStatus, all: readonly SourceTargets[]) {
  const targets = all.find((one) => one.name === name)?.targets;
  return {
    name,
    attention,
    last: last ?? null,
    ...(missing ? { missing } : {}),
    ...(targets ? { targets } : {}),
    lastGood: lastGood ? { ...lastGoodReport(lastGood), bytes: lastGood.entry.bytes } : null,
  };
}

/** The findings of `status` at the destination. */
interface Found {
  manifests: Manifest[];
  /** keys of damaged objects, and of the lists of packs that name one of them */
  objects: string[];
  /** snapshots that cannot be used */
  damaged: SnapshotList['damaged'];
  /** why the destination cannot be used */
  problem?: LifeboatError;
  /** which other projects it holds, if it has no snapshot of this one */
  others?: string;
}

/** Reads the manifests at the destination. If that fails, the caller still shows everything else. */
async function lookAtDestination({ app, io }: Call, plan: Plan): Promise<Found> {
  const found: Found = { manifests: [], damaged: [], objects: await app.state.damaged() };
  const { repository, error } = await app.own.look();
  if (error) return { ...found, problem: error };
  try {
    if (!repository) return found;
    const list = await repository.snapshots(io.signal);
    found.manifests = list.snapshots.map(({ manifest }) => manifest);
    refuseLostEnd(repository, list);
    const lastGood = plan.sources.flatMap(({ name }) => lastGoodOf(found.manifests, name)?.entry ?? []);
    found.objects = await withListsOf(repository, lastGood, found.objects, io.signal);
    const isNew = list.snapshots.length + list.damaged.length === 0;
    const names = isNew ? await findOtherProjects(repository, io.signal) : [];
    const others = otherProjectsText(repository.destination.name, names);
    return { ...found, damaged: list.damaged, ...(others === undefined ? {} : { others }) };
  } catch (cause) {
    io.signal.throwIfAborted();
    return { ...found, problem: toLifeboatError(cause) };
  }
}

/** The problems of the destination as `status --json` shows them. */
function destinationView({ problem, damaged }: Found) {
  return {
    ...(problem ? { error: errorInfo(problem) } : {}),
    ...(damaged.length > 0 ? { damaged: damaged.map(({ id, error }) => ({ id, ...errorInfo(error) })) } : {}),
  };
}

function destinationLines({ problem, damaged }: Found): string[] {
  const errors = [...(problem ? [errorInfo(problem)] : []), ...groupDamaged(damaged).map(({ error }) => error)];
  return errors.flatMap((error) => [
    `! ${problem ? 'destination: ' : ''}${error.message} (${error.code})`,
    ...detailLines(error).map((line) => `  ${line}`),
  ]);
}

/**
 * Renders what the last run reported apart from its sources and copies.
 *
 * @param said the errors that are already shown
 */
function lastRunLines(last: RunReport, said: readonly (ErrorInfo | undefined)[], paint: Paint): string[] {
  const problems = withoutRepeated(last.problems, said).filter(({ subject }) => subject !== PRUNE);
  return [...problems.flatMap((problem) => problemLines(problem, paint)), ...retentionLines(last, paint)];
}

function runningText(underWay: readonly UnderWay[], when: { now: Date; zone: string }): string | undefined {
  const start = underWay.at(-1)?.start;
  if (start?.verb !== 'backup') return undefined;
  return `backup ${start.run.id} since ${formatWhen(new Date(start.run.start), when)}`;
}

/**
 * Names the backup or restore in progress. The newest counts, because a restore runs a backup for its safety snapshot.
 */
function runningNow(underWay: readonly UnderWay[]): string | null {
  const start = underWay.at(-1)?.start;
  if (!start) return null;
  return start.verb === 'backup' ? `backup ${start.run.id} since ${start.run.start}` : `restore ${start.id}`;
}
