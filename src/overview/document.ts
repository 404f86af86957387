import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import type { KeptData } from '../kept/list.ts';
import type { RunReport } from '../report/events.ts';
import type { LastGoodReport } from '../report/last-good.ts';
import { lastGoodReport } from '../run/history.ts';
import type { SourceStatus } from '../run/source-status.ts';
import type { SourceTargets } from '../targets/collect.ts';
import { type Found, type Overview, runningNow } from './overview.ts';

/** A source, by its newest result and its newest good snapshot. */
interface StatusRow extends Pick<SourceStatus, 'name' | 'attention' | 'missing'> {
  last: NonNullable<SourceStatus['last']> | null;
  /** the targets that apply to it, and whether they are met */
  targets?: SourceTargets['targets'];
  lastGood:
    | (LastGoodReport & {
        /** of the source, when it was stored */
        bytes: number;
      })
    | null;
}

/** The state of a project's backups, as `status --json` prints it and the API sends it. */
export interface StatusDocument extends Pick<Overview, 'project' | 'copies' | 'places' | 'held' | 'problems'> {
  /** the backup or restore in progress, in words */
  running: string | null;
  /** the last run that ended */
  last: RunReport | null;
  /** ISO time of the next scheduled run */
  nextRun: string;
  sources: StatusRow[];
  destination: {
    /** the location without its options: `s3://bucket/prefix` */
    name: string;
    /** why it cannot be used */
    error?: ErrorInfo;
    /** snapshots that cannot be used */
    damaged?: ({ id: string } & ErrorInfo)[];
  };
  /** the times to which servers can be recovered; absent if there are none */
  windows?: Overview['windows'];
  /** the number of snapshots of the project */
  snapshots: number;
  /** the data that restores replaced */
  restores: KeptData['restores'];
  /** directories of restores in volumes that nothing needs */
  strayAreas: KeptData['stray'];
}

/** Returns an overview as `status --json` prints it and the API sends it. Not redacted. */
export function overviewDocument(overview: Overview): StatusDocument {
  const { project, underWay, last, nextRun, sources, destination, found, copies, places, windows, kept, held } =
    overview;
  return {
    project,
    running: runningNow(underWay),
    last: last ?? null,
    nextRun,
    sources: sources.map((source) => toRow(source, overview.targets)),
    destination: { name: destination, ...destinationView(found) },
    copies,
    places,
    ...(windows.length > 0 ? { windows } : {}),
    snapshots: found.manifests.length,
    restores: kept.restores,
    strayAreas: kept.stray,
    held,
    problems: overview.problems,
  };
}

function toRow({ name, attention, last, lastGood, missing }: SourceStatus, all: readonly SourceTargets[]): StatusRow {
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

function destinationView({ problem, damaged }: Found) {
  return {
    ...(problem ? { error: errorInfo(problem) } : {}),
    ...(damaged.length > 0 ? { damaged: damaged.map(({ id, error }) => ({ id, ...errorInfo(error) })) } : {}),
  };
}
