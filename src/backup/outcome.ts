import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import type { PlannedSource } from '../plan/model.ts';
import { stoppedDatabase } from '../plan/postgres.ts';
import { formatKeep } from '../plan/retention.ts';
import type { SourceReport } from '../report/events.ts';
import type { Trigger } from '../report/trigger.ts';
import { type LastGood, lastGoodReport, type VanishedSource } from '../run/history.ts';
import { missingError } from '../sources/postgres/server/missing-error.ts';
import type { CapturedTree } from '../sources/source.ts';
import type { StoredTree } from '../store/content/stored-tree.ts';
import { isRegular, type Manifest, type ManifestSource } from '../store/objects/manifest.ts';
import { databaseEntry, lastWithDatabase } from '../store/repository/stored-databases.ts';
import { recordedRows, type Shrinkage } from './shrinkage.ts';
import { leftOutNames, treeErrors, treeSummary, treeWarnings } from './tree-warnings.ts';

/** The outcome of one source: its report, its manifest entry, and the step that keeps its index after the commit. */
export interface Captured {
  report: SourceReport;
  entry: ManifestSource;
  keepIndex?: () => Promise<void>;
}

/** A source that was captured and stored. */
export interface StoredSource {
  planned: PlannedSource;
  tree: CapturedTree;
  stored: StoredTree;
  facts: ManifestSource['facts'];
  index: NonNullable<ManifestSource['index']>;
  packs: ManifestSource['packs'];
  shrinkage: Shrinkage;
  lastGood: LastGood | undefined;
  durationMs: number;
  trigger: Trigger;
  /** time zone of the schedules */
  zone: string;
  /** of the project, newest first */
  snapshots: readonly Manifest[];
}

/** Returns the outcome of a stored source: `partial` if a part of it is missing. */
export function storedOutcome(source: StoredSource): Captured {
  const { planned, tree, stored, shrinkage, lastGood, durationMs } = source;
  const { files, bytes, newFiles, newBytes, skipped } = stored;
  const { fell } = shrinkage;
  const leftOut = leftOutNames(stored.dataDirectories);
  const [failure, ...others] = listLosses(source);
  const found = [...treeWarnings(planned, stored), ...others.map(({ message }) => message)];
  const shared = {
    kind: planned.kind,
    status: failure ? ('partial' as const) : ('ok' as const),
    ...{ files, bytes, newFiles, newBytes },
    summary: tree.summary || treeSummary(stored),
    warnings: [...tree.warnings, ...found, ...shrinkage.warnings],
    ...(failure ? { error: failure } : {}),
  };
  return {
    report: {
      name: planned.name,
      ...shared,
      ...(fell ? { fell } : {}),
      durationMs,
      ...nameLastGood(lastGood),
    },
    entry: {
      ...shared,
      ...recordedRows(tree.facts),
      ...(tree.databases ? { databases: tree.databases.map(databaseEntry) } : {}),
      ...(tree.base ? { base: tree.base } : {}),
      ...(tree.withoutGlobals ? { withoutGlobals: tree.withoutGlobals } : {}),
      ...(tree.image ? { image: tree.image } : {}),
      ...(tree.imageDigest ? { imageDigest: tree.imageDigest } : {}),
      ...(source.facts ? { facts: source.facts } : {}),
      index: source.index,
      ...(source.packs ? { packs: source.packs } : {}),
      skipped,
      ...(leftOut.length > 0 ? { leftOut } : {}),
      // After the source is gone, retention still applies its last known policy.
      ...(planned.keepInDoubt === undefined ? { keep: formatKeep(planned.keep) } : {}),
      // Whoever reads the snapshots of many hosts knows from it when the next one is due.
      schedule: { cron: planned.schedule, zone: source.zone },
      // A safety snapshot holds data that is about to be replaced, so a loss is expected.
      ...(fell && fell.at === undefined && isRegular(source) ? { fell: { since: fell.since, why: fell.why } } : {}),
    },
  };
}

/** Returns the errors that make a source partial, the worst first. */
function listLosses({ planned, tree, stored, snapshots }: StoredSource): ErrorInfo[] {
  const { databases = [], withoutGlobals, incomplete } = tree;
  const last = (database: string) => lastWithDatabase(snapshots, planned.name, database)?.snapshot;
  const missing = missingError(databases, last);
  const parts = [incomplete, missing, withoutGlobals].filter((part) => part !== undefined);
  return [...treeErrors(planned, stored).map(errorInfo), ...parts];
}

/** Returns the last good snapshot in the form of reports, if there is one. */
function nameLastGood(lastGood: LastGood | undefined): Pick<SourceReport, 'lastGood'> {
  return lastGood ? { lastGood: lastGoodReport(lastGood) } : {};
}

/** Returns the outcome of a source that snapshots hold and the plan lacks. */
export function vanishedOutcome(source: VanishedSource): Captured {
  return failedOutcome(source, vanishedError(source), { durationMs: 0, lastGood: source.lastGood });
}

/** Returns the error about a source that snapshots hold and the plan lacks. */
export function vanishedError({
  name,
  stopped,
  renamed,
  lastGood,
}: Pick<VanishedSource, 'name' | 'stopped' | 'renamed' | 'lastGood'>): ErrorInfo {
  if (stopped !== undefined) return stoppedDatabase(stopped);
  if (renamed !== undefined) return renamedError(name, renamed);
  return {
    code: 'SOURCE_VANISHED',
    message: `${name} ${lastGood ? 'was backed up before' : 'only failed in earlier runs'} and is not there any more`,
    hint: `Start its container and check its labels. If its service has a new name, the label lifeboat.name with the old name continues its history. If it is gone on purpose, run \`lifeboat accept ${name}\`.`,
  };
}

function renamedError(name: string, { to, place, label }: NonNullable<VanishedSource['renamed']>): ErrorInfo {
  const advice =
    label === undefined
      ? `If ${to} replaces it`
      : `To continue the history of ${name}, set the label lifeboat.name: ${label} on the service of ${to}. If ${to} begins a new history`;
  return {
    code: 'SOURCE_VANISHED',
    message: `${name} was backed up before and is not there any more; ${place} is now backed up as ${to}`,
    hint: `Check that ${to} has the data of ${name}. ${advice}, run \`lifeboat accept ${name}\`.`,
  };
}

/** Returns the outcome of a source that stored nothing. */
export function failedOutcome(
  { name, kind }: { name: string; kind: SourceReport['kind'] },
  error: ErrorInfo,
  { durationMs, lastGood }: Pick<StoredSource, 'durationMs' | 'lastGood'>,
): Captured {
  const counts = { files: 0, bytes: 0, newFiles: 0, newBytes: 0 };
  const shared = { kind, status: 'failed' as const, error, ...counts, summary: '', warnings: [] };
  return {
    report: { name, ...shared, durationMs, ...nameLastGood(lastGood) },
    entry: { ...shared, skipped: {} },
  };
}
