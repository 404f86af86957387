import path from 'node:path';
import { type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { spoolProblems } from '../check/foresee.ts';
import { heldServices } from '../daemon/held-services.ts';
import type { KeptData } from '../kept/list.ts';
import type { Plan, Problem } from '../plan/model.ts';
import type { RunReport } from '../report/events.ts';
import { withoutAccepted, withoutRepaired } from '../report/tries.ts';
import { lastGoodOf } from '../run/history.ts';
import { SPOOL } from '../run/mounts.ts';
import { knownPlaces } from '../run/remembered.ts';
import { listSourceStatuses, type SourceStatus } from '../run/source-status.ts';
import type { CopyState, State } from '../run/state.ts';
import type { UnderWay } from '../run/under-way.ts';
import { documentsOfEntry, type Manifest } from '../store/objects/manifest.ts';
import { otherProjectsText } from '../store/repository/other-projects.ts';
import { withListsOf } from '../store/repository/pack-lists.ts';
import type { SnapshotList } from '../store/repository/repository.ts';
import { refuseLostEnd } from '../store/repository/seen-chain.ts';
import { readTargets, type SourceTargets } from '../targets/collect.ts';
import { leftSlotProblems } from '../wal/left-slots.ts';
import { openReceiverMemory } from '../wal/receiver-state.ts';
import { leftAsideProblems } from '../wal/spool/aside.ts';
import { knownOtherProjects } from './other-projects.ts';
import { type PlaceSize, placeSize } from './place-size.ts';
import { type LimitedPlace, readSizes, sizeProblems } from './size-log.ts';
import { FEW } from './snapshot-list.ts';
import { readWindows, type SourceWindows, type WindowDeps } from './windows.ts';

/** Dependencies of {@link collectOverview}. */
export interface OverviewDeps extends WindowDeps {
  /** an engine knows the agent's container */
  found: boolean;
  plan(): Promise<Plan>;
  project: string;
  settings: { timeZone: string; copies: readonly { name: string }[] };
  /** the destination and the copies, with what their storage costs */
  limitedPlaces: readonly LimitedPlace[];
  destination: { readonly name: string };
  state: State;
  /** directory of the journals */
  journals: string;
  nextRun(plan: Plan): Date;
  runsUnderWay(): Promise<UnderWay[]>;
  listKept(plan: Plan): Promise<KeptData>;
}

/** The facts about a project at one moment. */
export interface Overview {
  at: Date;
  project: string;
  zone: string;
  plan: Plan;
  /** runs in progress, oldest first */
  underWay: UnderWay[];
  /** the last run that ended, without what a person has accepted since */
  last?: RunReport;
  sources: SourceStatus[];
  /** name of the destination, without its options */
  destination: string;
  found: Found;
  copies: ({ name: string } & CopyState)[];
  /** what each place holds; the destination comes first */
  places: PlaceSize[];
  /** the targets of each source that has some, and whether they are met */
  targets: SourceTargets[];
  /** the times to which servers can be recovered; empty if the destination cannot be read */
  windows: SourceWindows[];
  kept: KeptData;
  held: Awaited<ReturnType<typeof heldServices>>;
  /** problems that belong to no run: of the spool, of WAL that is set aside, of replication slots, and damage */
  problems: Problem[];
  /** ISO time of the next scheduled run */
  nextRun: string;
  /** ISO time at which a failed run is tried again, unless a run is in progress */
  retryAt?: string;
}

/** The findings at the destination. */
export interface Found {
  /** newest first */
  manifests: Manifest[];
  /** keys of damaged objects, and of the lists of packs that name one of them */
  objects: string[];
  /** snapshots that cannot be used */
  damaged: SnapshotList['damaged'];
  /** why the destination cannot be used */
  problem?: LifeboatError;
  /** ids of snapshots that are not signed although a signing key is set */
  unsigned?: string[];
  /** other projects that it holds, if it has few snapshots of this one */
  otherProjects?: string[];
  /** which other projects it holds, if it has no snapshot of this one */
  others?: string;
}

/**
 * Collects the facts about the agent's project. If the destination cannot be read, the facts that need no destination
 * are still there.
 *
 * @param deps where to read
 * @param signal ends the reading
 * @returns sizes in bytes
 * @throws ENGINE_* if the plan cannot be made; the signal's reason
 */
export async function collectOverview(deps: OverviewDeps, signal: AbortSignal): Promise<Overview> {
  const { state, settings } = deps;
  const at = new Date();
  const [run, plan] = [await state.lastRun(), await deps.plan()];
  const found = await lookAtDestination(deps, plan, signal);
  const { manifests, objects: damaged } = found;
  const { timeZone: zone } = settings;
  const [results, accepted] = await Promise.all([state.results(), state.accepted()]);
  const lastPlaces = await knownPlaces(state.directory).catch(() => ({}));
  const sources = listSourceStatuses({
    plan,
    manifests,
    results,
    accepted,
    places: lastPlaces,
    damaged,
    zone,
    now: at,
  });
  const underWay = await deps.runsUnderWay();
  // A retry in progress is noted too, in case it dies.
  const retryAt = underWay.length > 0 ? undefined : (await state.retries()).map((retry) => retry.at).sort()[0];
  const kept = await deps.listKept(plan);
  const windows = found.problem ? [] : await readWindows(deps, signal, { plan: deps.found ? plan : undefined });
  const copies = await copyStates(deps);
  const left = await walProblems(deps, windows);
  const sizes = await readSizes(state.directory);
  // Without the destination, the snapshots that the daemon remembers count.
  const known = found.problem ? undefined : manifests;
  const targets = await readTargets({ plan, directory: state.directory, manifests: known }, at);
  const problems = [
    ...(await spoolProblems(SPOOL)),
    ...[...left, ...damageProblems(sources, damaged), ...sizeProblems(deps.limitedPlaces, sizes)],
  ];
  const held = await heldServices(deps.journals, underWay);
  return {
    ...{ at, project: deps.project, zone, plan, underWay, sources, destination: deps.destination.name, found },
    ...(run ? { last: lastOf(withoutAccepted(run, accepted), deps, plan) } : {}),
    ...{
      copies,
      targets,
      places: deps.limitedPlaces.map((place) => placeSize(place, sizes[place.name], at)),
      windows,
      kept,
      held,
      problems,
      nextRun: deps.nextRun(plan).toISOString(),
    },
    ...(retryAt === undefined ? {} : { retryAt }),
  };
}

/** Leaves out what a user has repaired since. Without an engine, the plan is not known. */
function lastOf(last: RunReport, { found }: Pick<OverviewDeps, 'found'>, { problems }: Plan): RunReport {
  return found ? withoutRepaired(last, problems) : last;
}

/**
 * Names the backup, restore or drill in progress. The newest counts, because a restore runs a backup for its safety
 * snapshot.
 */
export function runningNow(underWay: readonly UnderWay[]): string | null {
  const start = underWay.at(-1)?.start;
  if (!start) return null;
  return start.verb === 'backup' ? `backup ${start.run.id} since ${start.run.start}` : `${start.verb} ${start.id}`;
}

/**
 * Returns the replication slots that no source needs any more, and the WAL that was set aside of sources that `windows`
 * does not list. Without the spool, none is known.
 */
async function walProblems({ state }: OverviewDeps, windows: readonly SourceWindows[]): Promise<Problem[]> {
  const slots = await openReceiverMemory(state.directory)
    .slots()
    .catch(() => []);
  const shown = windows.map(({ name }) => name);
  const aside = await leftAsideProblems(path.join(SPOOL, 'wal'), shown).catch(() => []);
  return [...leftSlotProblems(slots), ...aside];
}

async function copyStates({ state, settings }: OverviewDeps): Promise<Overview['copies']> {
  const known = await state.copies();
  return settings.copies.map(({ name }) => ({ name, ...known[name] }));
}

/** Reads the manifests at the destination. If that fails, the caller still shows everything else. */
async function lookAtDestination(deps: OverviewDeps, plan: Plan, signal: AbortSignal): Promise<Found> {
  const found: Found = { manifests: [], damaged: [], objects: await deps.state.damaged() };
  const { repository, error } = await deps.own.look();
  if (error) return { ...found, problem: error };
  try {
    if (!repository) return found;
    const list = await repository.snapshots(signal);
    found.manifests = list.snapshots.map(({ manifest }) => manifest);
    refuseLostEnd(repository, list);
    const lastGood = plan.sources.flatMap(({ name }) => lastGoodOf(found.manifests, name)?.entry ?? []);
    found.objects = await withListsOf(repository, lastGood, found.objects, signal);
    const otherProjects = list.snapshots.length < FEW ? await knownOtherProjects(deps.state, repository, signal) : [];
    const isNew = list.snapshots.length + list.damaged.length === 0;
    const others = isNew ? otherProjectsText(repository.destination.name, otherProjects) : undefined;
    const unsigned = list.snapshots.flatMap((one) => (one.unsigned ? [one.manifest.id] : []));
    const known = { ...found, unsigned, otherProjects, damaged: list.damaged };
    return others === undefined ? known : { ...known, others };
  } catch (cause) {
    signal.throwIfAborted();
    return { ...found, problem: toLifeboatError(cause) };
  }
}

/** Returns the sources whose last good snapshot needs a damaged object. `damaged`: their keys, see `withListsOf`. */
function damageProblems(all: readonly SourceStatus[], damaged: readonly string[]): Problem[] {
  const bad = new Set(damaged);
  return all.flatMap(({ name, lastGood }): Problem[] => {
    if (!lastGood) return [];
    if (!documentsOfEntry(lastGood.entry).some(({ key }) => bad.has(key))) return [];
    return [
      {
        severity: 'error',
        code: 'OBJECT_DAMAGED',
        subject: name,
        message: `\`lifeboat check\` found damage in its last good snapshot ${lastGood.snapshot}`,
        hint: `Run \`lifeboat backup ${name}\`, which stores the damaged content again. \`lifeboat check\` names the newest whole snapshot.`,
      },
    ];
  });
}
