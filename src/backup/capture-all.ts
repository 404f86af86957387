import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { PlannedSource, Problem } from '../plan/model.ts';
import { type FindStarted, withHold } from '../run/hold.ts';
import { tooLarge } from '../store/objects/documents.ts';
import { canonicalJson } from '../store/objects/manifest.ts';
import { MAX_DOCUMENT } from '../store/objects/objects.ts';
import { readInfo } from '../store/repository/repository-info.ts';
import type { BackupDeps, Capturer, RunContext } from './context.ts';
import type { Captured } from './outcome.ts';
import { groupByHold } from './rules.ts';

interface CaptureAllOptions {
  deps: Pick<BackupDeps, 'dispatcher' | 'holdDeps' | 'capturer'>;
  context: RunContext;
  sources: PlannedSource[];
  captured: Captured[];
  problems: Problem[];
}

/** Captures and stores every source. A failing source does not stop the others. */
export async function captureAll({ deps, context, sources, captured, problems }: CaptureAllOptions): Promise<void> {
  const capturer = deps.capturer(context);
  const emit = deps.dispatcher.emit;
  const captureOne = async (source: PlannedSource, work: () => Promise<Captured>) => {
    emit({ type: 'source-started', source: source.name });
    const one = await work();
    captured.push(one);
    emit({ type: 'source-finished', result: redactDeep(one.report) });
  };
  for (const { hold, sources: group } of groupByHold(sources)) {
    context.signal.throwIfAborted();
    const waiting = [...group];
    const captureGroup = async (warnings: string[], started: FindStarted = async () => undefined) => {
      for (let source = waiting.shift(); source !== undefined; source = waiting.shift()) {
        const planned = source;
        const gone = await whyGone(context, captured);
        await captureOne(planned, async () => {
          if (gone) return capturer.failed(planned, gone);
          const one = await capturer.capture(planned, warnings);
          const stop = planned.kind === 'volume' ? planned.stop.map(({ id }) => id) : [];
          return withLoss(one, stop.length > 0 ? await started(stop) : undefined);
        });
      }
    };
    try {
      const gone = await whyGone(context, captured);
      // Without a destination, no container is stopped and nothing is dumped.
      if (gone) throw gone;
      if (hold) await withHold(hold, deps.holdDeps(context.journal, context.log), context.signal, captureGroup);
      else await captureGroup([]);
    } catch (error) {
      // Sources that were not captured fail with the error. Stored sources stay stored, and the failure becomes a
      // problem of the run.
      const { code, message, hint } = errorInfo(error);
      if (waiting.length < group.length) {
        problems.push({
          severity: 'error',
          code,
          subject: hold?.container.name ?? '',
          message,
          ...(hint ? { hint } : {}),
        });
      }
      for (const source of waiting) await captureOne(source, () => capturer.failed(source, error));
    }
  }
}

/** Returns the outcome of a source as partial if `why` says that its files may be inconsistent. */
function withLoss({ report, entry, ...rest }: Captured, why: LifeboatError | undefined): Captured {
  if (!why || report.status === 'failed') return { report, entry, ...rest };
  const error = errorInfo(why);
  const loss =
    report.status === 'ok' ? { status: 'partial' as const, error } : { warnings: [...report.warnings, error.message] };
  return { report: { ...report, ...loss }, entry: { ...entry, ...loss }, ...rest };
}

/** The largest size of a manifest's sources, bytes. The rest of a manifest is small. */
const LONGEST = MAX_DOCUMENT - 64 * 1024;

/**
 * Fails sources with SNAPSHOT_TOO_LARGE, the largest first, until the manifest is small enough to be read back. A
 * manifest names each pack of a source, and a very large volume has many packs.
 */
export async function failTooLarge(
  capturer: Pick<Capturer, 'failed'>,
  captured: Captured[],
  longest = LONGEST,
): Promise<void> {
  const sizes = captured.map(({ entry }) => Buffer.byteLength(canonicalJson(entry)));
  while (sizes.reduce((sum, size) => sum + size, 0) > longest) {
    const size = Math.max(...sizes);
    const i = sizes.indexOf(size);
    const { name, kind } = (captured[i] as Captured).report;
    const error = tooLarge(`what the manifest says of ${name}`, size, longest);
    captured[i] = await capturer.failed({ name, kind: kind as PlannedSource['kind'] }, error);
    sizes[i] = 0;
  }
}

/**
 * Checks the destination again after it failed to answer for an earlier source. Returns the error while it still does
 * not answer, else undefined.
 */
async function whyGone(
  { repository }: Pick<RunContext, 'repository'>,
  captured: readonly Captured[],
): Promise<LifeboatError | undefined> {
  if (!captured.some(({ report }) => report.error?.code === 'DEST_UNREACHABLE')) return undefined;
  return readInfo(repository.destination).then(
    () => undefined,
    (error: unknown) => toLifeboatError(error),
  );
}
