import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import type { RunStatus } from '../report/events.ts';
import type { LastGoodReport } from '../report/last-good.ts';
import { lastGoodOf, lastGoodReport } from '../run/history.ts';
import { isRegular, type Manifest } from '../store/objects/manifest.ts';
import type { Repository } from '../store/repository/repository.ts';

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
}

/** A project in a repository. One agent writes it, often that of one host. */
export interface HostState {
  project: string;
  /** ISO time of its newest snapshot; null if it has none that can be read */
  newest: string | null;
  /** no snapshot for more than twice as long as there ever was between its last ones: its agent may be gone */
  late: boolean;
  sources: HostSource[];
  /** why its snapshots cannot be read */
  error?: ErrorInfo;
}

/** How many snapshots show how often a project is backed up. */
const LAST = 8;
/** Snapshots by hand may be minutes apart, and that is no schedule: milliseconds. */
const LEAST_GAP_MS = 3_600_000;

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
      const { snapshots } = await (await open(project)).snapshots(signal);
      const manifests = snapshots.map(({ manifest }) => manifest).filter(isRegular);
      all.push(stateOf(project, manifests, now));
    } catch (error) {
      signal.throwIfAborted();
      all.push({ project, newest: null, late: false, sources: [], error: errorInfo(error) });
    }
  }
  return all;
}

/** @param manifests newest first */
function stateOf(project: string, manifests: readonly Manifest[], now: Date): HostState {
  const names = new Set(manifests.flatMap(({ sources }) => Object.keys(sources)));
  const sources = [...names].sort().map((name): HostSource => {
    const newest = manifests.find((one) => one.sources[name] !== undefined)?.sources[name];
    const good = lastGoodOf(manifests, name);
    return {
      name,
      status: newest?.status ?? 'failed',
      lastGood: good ? { ...lastGoodReport(good), bytes: good.entry.bytes } : null,
    };
  });
  return { project, newest: manifests[0]?.end ?? null, late: isLate(manifests, now), sources };
}

function isLate(manifests: readonly Manifest[], now: Date): boolean {
  const ends = manifests.slice(0, LAST).map(({ end }) => Date.parse(end));
  const [newest] = ends;
  const gaps = ends.slice(1).map((end, i) => (ends[i] as number) - end);
  if (newest === undefined || gaps.length === 0) return false;
  return now.getTime() - newest > 2 * Math.max(LEAST_GAP_MS, ...gaps);
}

/** Returns whether a person has to look at a project. */
export function isTroubled({ late, error, sources }: HostState): boolean {
  return late || error !== undefined || sources.some(({ status }) => status !== 'ok');
}
