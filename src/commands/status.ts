import { listProjects } from '../app/other-repository.ts';
import { errorOf } from '../backup/others.ts';
import { type ErrorInfo, errorInfo } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { heldProblems } from '../daemon/held-services.ts';
import { keptLines } from '../kept/list.ts';
import { overviewDocument } from '../overview/document.ts';
import { isTroubled, readHosts } from '../overview/hosts.ts';
import { collectOverview, type Found, type Overview, runningNow } from '../overview/overview.ts';
import { copyStateLines } from '../report/copy-text.ts';
import type { RunReport } from '../report/events.ts';
import { formatAgo, formatWhen, oneLine } from '../report/format.ts';
import type { Paint } from '../report/paint.ts';
import { detailLines, problemLines, withoutRepeated } from '../report/problem-text.ts';
import { PRUNE, retentionLines } from '../report/prune-text.ts';
import { headline, nextRun, nextTry } from '../report/text.ts';
import type { SourceStatus } from '../run/source-status.ts';
import type { UnderWay } from '../run/under-way.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { groupDamaged } from '../store/repository/damaged-groups.ts';
import { type Call, print } from './call.ts';
import { hostLines, renderSourceStatuses, targetLines } from './status-text.ts';
import { windowLines } from './windows.ts';

/** `lifeboat status`: shows each source by its own newest result, whichever sources the last run covered. */
export async function status(call: Call): Promise<number> {
  if (call.options.allHosts === true) return allHosts(call);
  const overview = await collectOverview(call.app, call.io.signal);
  print(call, 'status', overviewDocument(overview), () => renderOverview(overview, call.io.paint));
  const { found, last, sources: all, copies, held, problems, targets } = overview;
  const isMissed = targets.some((one) => one.targets.some(({ met }) => met === false));
  const behind = isMissed || found.damaged.length > 0 || copies.some(({ behindSince }) => behindSince !== undefined);
  return exitStatusOf(found, { last, all, troubled: behind || held.length > 0 || problems.length > 0 });
}

/** `lifeboat status --all-hosts`. Exit status: 3 if a project needs attention, 4 without any snapshot. */
async function allHosts(call: Call): Promise<number> {
  const { app, io } = call;
  const now = new Date();
  const projects = await listProjects(app.destination);
  const hosts = await readHosts(projects, app.repositoryOf, { now, signal: io.signal });
  print(call, 'status --all-hosts', { hosts }, () =>
    hosts.length === 0 ? 'No snapshot yet.' : hosts.flatMap((host) => hostLines(host, now, io.paint)).join('\n'),
  );
  if (hosts.length === 0) return EXIT.nothing;
  return hosts.some(isTroubled) ? EXIT.partial : EXIT.done;
}

function renderOverview(overview: Overview, paint: Paint): string {
  const { at: now, zone, underWay, last, found, sources: all, windows, copies, kept, held, problems } = overview;
  const running = runningNow(underWay);
  return [
    ...(running ? [`Running: ${runningText(underWay, { now, zone }) ?? running}`] : []),
    ...(last ? lastRunHead(last, now) : noRunLines(found, all)),
    ...destinationLines(found),
    ...renderSourceStatuses(all, { now, paint, unread: found.problem !== undefined }),
    ...targetLines(overview.targets, now, paint),
    ...problems.flatMap((problem) => problemLines(problem, paint)),
    ...(last ? lastRunLines(last, all.map(errorOf), paint) : []),
    ...windows.flatMap((one) => windowLines(one, { now })),
    ...copyStateLines(copies, now, paint),
    ...heldProblems(held).flatMap((problem) => problemLines(problem, paint)),
    ...keptLines(kept, now),
    ...(overview.retryAt ? [nextTry(overview.retryAt, { now, zone })] : []),
    nextRun(overview.nextRun, { now, zone }),
  ].join('\n');
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
