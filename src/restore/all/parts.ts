import { type ErrorInfo, errorInfo, LifeboatError } from '../../base/errors.ts';
import { isHalfRestored } from '../../kept/volumes.ts';
import type { RestoreReport } from '../../report/events.ts';
import { restoreCommand } from '../../report/restore-command.ts';
import type { Journal } from '../../run/journal.ts';
import { spoolTooSmall } from '../content.ts';
import type { PreparedRestore, RestoreDeps, RestoreRequest } from '../context.ts';
import type { Opened } from '../part.ts';

/** One source of a restore of all sources. */
export interface Part {
  request: RestoreRequest;
  opened: Opened;
  prepared: PreparedRestore;
  report: RestoreReport;
  closed?: true;
}

/** Closes the sessions or the helper of a source. */
export async function closeData(part: Part): Promise<void> {
  if (part.closed) return;
  part.closed = true;
  await part.prepared.close();
}

/** A restore of all sources in progress. */
export interface Whole {
  deps: RestoreDeps;
  request: RestoreRequest;
  report: RestoreReport;
  parts: Part[];
  /** every source that was opened, also one that could not be prepared */
  opened: Opened[];
  failed: { target: string; error: ErrorInfo }[];
  /** the journal of the group, which records the stops of services */
  journal: Journal;
  startedAt: Date;
  /** returns the end time of the restore if it ends now */
  ended(): Date;
  /** the error that left a volume neither old nor new, so services stay stopped */
  half?: unknown;
}

/** Runs a step of one source. A failure excludes that source from the rest of the restore, and no other. */
export async function ofOne(whole: Whole, source: string, work: () => Promise<void>): Promise<void> {
  const { signal } = whole.request;
  // The services of a half restored volume stay stopped also after an interruption.
  if (signal.aborted) throw whole.half ?? signal.reason;
  try {
    await work();
  } catch (error) {
    if (signal.aborted && !isHalfRestored(error)) throw whole.half ?? signal.reason;
    const info = errorInfo(error);
    whole.failed.push({ target: source, error: info });
    whole.request.say(`  ${source} is not restored: ${info.message} (${info.code})`);
    if (isHalfRestored(error)) whole.half ??= error;
  }
}

/** Returns the parts that still change something. */
export function active({ parts, failed }: Whole): Part[] {
  return parts.filter(({ request, prepared: { preview } }) => {
    const isOut = failed.some(({ target }) => target === request.source);
    return !isOut && preview.replaces.length + preview.creates.length > 0;
  });
}

/** Returns whether the restore of a source puts data aside. */
export function replaces({ prepared }: Part): boolean {
  return prepared.preview.replaces.length > 0;
}

/**
 * Refuses sources that share a volume. They differ in what they leave out, so a restore of one moves the other's files
 * away.
 */
export function refuseSharedVolumes(whole: Whole): void {
  const keyOf = ({ prepared }: Part) => {
    const { target } = prepared.preview;
    return target?.kind === 'volume' ? (target.mount.name ?? target.mount.source) : undefined;
  };
  for (const [volume, sharing] of Map.groupBy(whole.parts, keyOf)) {
    if (volume === undefined || sharing.length === 1) continue;
    for (const { request, opened } of sharing) {
      const others = sharing.map((one) => one.request.source).filter((name) => name !== request.source);
      const command = restoreCommand(request, opened.start.snapshot, request.source, "--path '**'");
      const error = new LifeboatError(
        'TREE_TARGET_REFUSED',
        `${request.source} shares its volume with ${others.join(', ')}, and the restore of one would move the files of the other away`,
        { hint: `Restore each with --path, for example \`${command}\`.` },
      );
      whole.failed.push({ target: request.source, error: errorInfo(error) });
    }
  }
}

/**
 * Refuses sources whose content does not fit into the spool together with that of the sources before them. Each fits
 * alone, and all are fetched before the first is swapped.
 */
export function refuseBeyondSpool(whole: Whole): void {
  let sum = 0;
  for (const { request, prepared, opened } of active(whole)) {
    const { spool } = prepared.preview;
    if (spool === undefined) continue;
    sum += spool.needed;
    if (sum <= spool.free) continue;
    const { source } = request;
    const what = `the restore of ${source} after the sources before it`;
    const hint = ` Or restore it alone: \`${restoreCommand(request, opened.start.snapshot, source)}\`.`;
    whole.failed.push({
      target: source,
      error: errorInfo(spoolTooSmall({ needed: sum, free: spool.free }, what, hint)),
    });
    sum -= spool.needed;
  }
}
