import { LifeboatError } from '../../base/errors.ts';
import type { RestoreReport } from '../../report/events.ts';
import { restoreCommand } from '../../report/restore-command.ts';
import type { RestoreResult } from '../context.ts';
import { copyLines, liveNotes, noteLines, previewLines, serviceLines, summarise } from '../preview.ts';
import { NO_SERVICES, type Services } from '../services.ts';
import type { Part, Whole } from './parts.ts';
import type { Unchanged } from './sources.ts';

/** Shows what a restore of all sources would do. */
export function showPreview(
  { deps, request, parts, failed }: Whole,
  unchanged: readonly Unchanged[],
  services: Services,
): void {
  const safety = request.safety && !deps.otherRepository;
  for (const line of copyLines(deps)) request.say(line);
  for (const { request: own, prepared, opened } of parts) {
    if (failed.some(({ target }) => target === own.source)) continue;
    request.say(`${own.source} from ${opened.context.snapshot.id}`);
    for (const line of previewLines({ ...own, safety }, prepared.preview, NO_SERVICES)) request.say(line);
  }
  for (const { source, reason } of unchanged) request.say(`${source} stays as it is: ${reason}`);
  const lines = [
    ...serviceLines(services, { will: request.dryRun ? 'would' : 'will', live: request.live }),
    ...noteLines(liveNotes(request, services)),
  ];
  if (lines.length === 0) return;
  request.say('Services');
  for (const line of lines) request.say(line);
}

/** Returns what the result says in addition to the report. */
export function describe(
  { request, parts, failed, report }: Whole,
  changing: readonly Part[],
  unchanged: readonly Unchanged[],
  services: Services,
): Omit<RestoreResult, keyof RestoreReport> {
  const previews = changing.map(({ prepared }) => prepared.preview);
  const isFailed = (source: string) => failed.some(({ target }) => target === source);
  return {
    left: previews.flatMap((one) => one.left),
    preview: summarise(
      {
        replaces: previews.flatMap((one) => one.replaces),
        creates: previews.flatMap((one) => one.creates),
        bytes: previews.reduce((sum, one) => sum + one.bytes, 0),
        notes: [...previews.flatMap((one) => one.notes), ...liveNotes(request, services)],
      },
      services,
    ),
    sources: [
      ...parts
        .filter(({ request: own }) => !isFailed(own.source))
        .map(({ request: own, opened }) => ({
          ...{ source: own.source, snapshot: opened.context.snapshot.id, restore: opened.context.id },
        })),
      ...failed.map(({ target, error }) => ({ source: target, error })),
      ...unchanged.map(({ source, reason }) => ({ source, unchanged: reason })),
    ],
    durationMs: Date.parse(report.end) - Date.parse(report.start),
  };
}

/** Adds up the reports of the sources. */
export function combine({ report, parts, failed }: Whole): void {
  for (const { request, report: one } of parts) {
    const named = (target: string) => `${request.source}: ${target}`;
    report.restored.push(...one.restored.map((item) => ({ ...item, target: named(item.target) })));
    failed.push(...(one.failed ?? []).map((item) => ({ ...item, target: named(item.target) })));
    report.warnings.push(...one.warnings.map(named));
    report.canRollBack ||= one.canRollBack;
    if (one.skipped) report.skipped = [...(report.skipped ?? []), ...one.skipped];
    if (one.withoutDataMs !== undefined) report.withoutDataMs = Math.max(report.withoutDataMs ?? 0, one.withoutDataMs);
  }
  if (failed.length > 0) report.failed = failed;
}

/** Returns the error of a restore that left out sources. */
export function failure({ request, opened, failed }: Whole): LifeboatError {
  const [first] = failed;
  if (!first) throw new LifeboatError('INTERNAL', 'no source failed');
  const { code, message, hint } = first.error;
  const names = failed.map(({ target }) => target).join(', ');
  const one = first.target.split(':')[0] as string;
  // The same restore alone would fail in the same way if the hint names another one.
  const snapshot = opened.find(({ start }) => start.source === one)?.start.snapshot ?? request.snapshot;
  const alone = hint?.includes('lifeboat restore ')
    ? ''
    : ` \`${restoreCommand(request, snapshot, one)}\` restores one of them alone.`;
  return new LifeboatError(code, `could not be restored: ${names}: ${message}`, {
    ...(first.error.cause === undefined ? {} : { cause: new Error(first.error.cause) }),
    hint: `${hint ?? 'They are unchanged.'}${alone}`,
  });
}
