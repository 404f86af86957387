import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { isFuture } from '../plan/values/clock.ts';
import { previousRun } from '../plan/values/schedule.ts';
import type { RunStatus } from '../report/events.ts';
import type { LastGoodReport } from '../report/last-good.ts';
import { lastGoodOf, lastGoodReport } from '../run/history.ts';
import { isRegular, type Manifest, type ManifestSource } from '../store/objects/manifest.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import type { Repository, SnapshotList } from '../store/repository/repository.ts';
import { unsigned } from '../store/repository/signing.ts';

/** A source of a project in a repository, as its snapshots show it. */
interface HostSource {
  name: string;
  /** of its newest result that a snapshot holds */
  status: RunStatus;
  lastGood:
    | (LastGoodReport & {
        /** of the source, when it was stored */
        bytes: number;
      })
    | null;
  /** ISO time of its newest snapshot, good or not */
  newest: string;
  /** its schedule, as its newest scheduled snapshot names it; null if none does */
  schedule: string | null;
  /** the usual time between its last snapshots, milliseconds; null with fewer than three snapshots */
  usualMs: number | null;
  /**
   * `late`: it missed its last two scheduled times, and has no snapshot for longer than usual. Without a known
   * schedule: it has none for much longer than usual. `ahead`: its newest snapshot is dated in the future
   */
  attention: 'late' | 'ahead' | null;
}

/** How often a source is backed up. */
interface Rhythm {
  schedule: ManifestSource['schedule'];
  usualMs: number | null;
}

/** A project in a repository. One agent writes it, often that of one host. */
export interface HostState {
  project: string;
  /** ISO time of its newest snapshot; null if it has none that can be read, apart from safety snapshots and imports */
  newest: string | null;
  /** a source has missed snapshots: its agent may be gone */
  late: boolean;
  /** sorted by name */
  sources: HostSource[];
  /** why some of its snapshots cannot be used: they are damaged, or not signed; one error for each reason */
  damaged: ErrorInfo[];
  /** why none of its snapshots can be read */
  error?: ErrorInfo;
}

/** The number of snapshots that show how often a schedule makes them. Retention thins older ones, whatever it keeps. */
const LAST_SCHEDULED = 4;
/** The same, for snapshots by hand. */
const LAST_BY_HAND = 8;
/** No source is late before, milliseconds. */
const LEAST_LIMIT_MS = 6 * 3_600_000;
/** The least usual time of snapshots by hand, milliseconds: several on one day are no schedule. */
const LEAST_BY_HAND_MS = 24 * 3_600_000;
/** A source that missed scheduled times is late after this part of the usual time. */
const MORE_THAN_USUAL = 1.5;
/** A source with fewer snapshots does not show how often it is backed up. */
const LEAST_SNAPSHOTS = 3;
/** Such a source is late after this time, milliseconds. */
const UNKNOWN_LIMIT_MS = 48 * 3_600_000;

/**
 * Reads the state of all projects of a repository from their snapshots alone. A project that cannot be read does not
 * keep the others from being read.
 *
 * @param open opens the repository for a project
 * @returns sorted by project; sizes in bytes
 * @throws the signal's reason
 */
export async function readHosts(
  projects: readonly string[],
  open: (project: string) => Promise<Repository>,
  { now, signal }: { now: Date; signal: AbortSignal },
): Promise<HostState[]> {
  const all: HostState[] = [];
  for (const project of projects.toSorted()) {
    try {
      all.push(stateOf(project, await (await open(project)).snapshots(signal), now));
    } catch (error) {
      signal.throwIfAborted();
      all.push({ project, newest: null, late: false, sources: [], damaged: [], error: errorInfo(error) });
    }
  }
  return all;
}

function stateOf(project: string, { snapshots, damaged }: SnapshotList, now: Date): HostState {
  // Nobody vouches for an unsigned manifest. It is no backup, and if there is no signed one, the key may be wrong.
  const trusted = snapshots.filter(({ unsigned: isUnsigned }) => !isUnsigned);
  const refused = trusted.length > 0 ? [] : snapshots.map(({ manifest: { id } }) => ({ id, error: unsigned(id) }));
  const manifests = trusted.map(({ manifest }) => manifest).filter(isRegular);
  const names = new Set(manifests.flatMap(({ sources }) => Object.keys(sources)));
  const sources = [...names].sort().map((name) => sourceOf(manifests, name, now));
  return {
    project,
    newest: manifests[0]?.end ?? null,
    late: sources.some(({ attention }) => attention === 'late'),
    sources,
    damaged: groupDamaged([...damaged, ...refused]).map(({ error }) => error),
  };
}

/** @param manifests newest first; one of them has the source */
function sourceOf(manifests: readonly Manifest[], name: string, now: Date): HostSource {
  const own = manifests.filter(({ sources }) => sources[name] !== undefined);
  const [newest] = own as [Manifest, ...Manifest[]];
  const good = lastGoodOf(own, name);
  const usualMs = usualGap(own);
  const schedule = scheduleOf(own, name);
  const at = Date.parse(newest.end);
  return {
    name,
    status: newest.sources[name]?.status ?? 'failed',
    lastGood: good ? { ...lastGoodReport(good), bytes: good.entry.bytes } : null,
    ...{ newest: newest.end, schedule: schedule?.cron ?? null, usualMs },
    attention: isFuture(at, now.getTime()) ? 'ahead' : isLate(at, { schedule, usualMs }, now) ? 'late' : null,
  };
}

/**
 * Returns the schedule of a source. Snapshots by hand do not prove that something follows it.
 *
 * @param manifests newest first
 */
function scheduleOf(manifests: readonly Manifest[], name: string): ManifestSource['schedule'] {
  const isScheduled = ({ trigger }: Manifest) => trigger === 'schedule' || trigger === 'catch-up';
  return manifests.find((one) => isScheduled(one) && one.sources[name]?.schedule !== undefined)?.sources[name]
    ?.schedule;
}

/**
 * Returns the usual time between the snapshots of a source, by those that a schedule made in time. Without enough of
 * them, somebody may start each backup by hand, or with a scheduler of their own.
 *
 * @param manifests newest first
 */
function usualGap(manifests: readonly Manifest[]): number | null {
  const scheduled = manifests.filter(({ trigger }) => trigger === 'schedule');
  if (scheduled.length >= LEAST_SNAPSHOTS) return lowGap(scheduled.slice(0, LAST_SCHEDULED));
  if (manifests.length < LEAST_SNAPSHOTS) return null;
  return Math.max(LEAST_BY_HAND_MS, lowGap(manifests.slice(0, LAST_BY_HAND)));
}

/** Returns the lower quartile of the gaps: outages, and what retention removed, make long ones. */
function lowGap(manifests: readonly Manifest[]): number {
  const ends = manifests.map(({ end }) => Date.parse(end));
  const gaps = ends.slice(1).map((end, i) => Math.abs((ends[i] as number) - end));
  return gaps.sort((a, b) => a - b)[Math.floor((gaps.length - 1) / 4)] as number;
}

/** Returns whether a source has missed snapshots since its newest one. `newest`: milliseconds since 1970 */
function isLate(newest: number, { schedule, usualMs }: Rhythm, now: Date): boolean {
  const due = schedule && lastButOne(schedule, now);
  // Its backups may take longer than the schedule allows, and then follow each other without a pause.
  const least = Math.max(LEAST_LIMIT_MS, usualMs === null ? 0 : MORE_THAN_USUAL * usualMs);
  if (due !== undefined) return newest < due && now.getTime() - newest > least;
  const limit = usualMs === null ? UNKNOWN_LIMIT_MS : Math.max(LEAST_LIMIT_MS, 2 * usualMs);
  return now.getTime() - newest > limit;
}

/**
 * Returns the last but one time at which a schedule ran, milliseconds since 1970. Another version of Lifeboat may have
 * stored a schedule that this one cannot read: then undefined.
 */
function lastButOne({ cron, zone }: NonNullable<ManifestSource['schedule']>, now: Date): number | undefined {
  try {
    return previousRun(cron, zone, new Date(previousRun(cron, zone, now).getTime() - 1)).getTime();
  } catch {
    return undefined;
  }
}

/** Returns whether a person has to look at a project. */
export function isTroubled({ newest, error, damaged, sources }: HostState): boolean {
  if (newest === null || error !== undefined || damaged.length > 0) return true;
  return sources.some(({ status, attention }) => status !== 'ok' || attention !== null);
}
