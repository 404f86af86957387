import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { PlannedSource, Problem } from '../plan/model.ts';
import { type FindStarted, withHold } from '../run/hold.ts';
import { tooLarge } from '../store/objects/documents.ts';
import { canonicalJson } from '../store/objects/manifest.ts';
import { MAX_DOCUMENT } from '../store/objects/objects.ts';
import { readInfo } from '../store/repository/repository-info.ts';
import type { Capturer } from './capture.ts';
import type { BackupDeps, RunContext } from './context.ts';
import type { Captured } from './outcome.ts';
import { groupByHold } from './rules.ts';

interface CaptureAllOptions {
  deps: Pick<BackupDeps, 'dispatcher' | 'holdDeps' | 'capturer'>;
  context: RunContext;
  sources: PlannedSource[];
  captured: Captured[];
  problems: Problem[];
}

/** Captures and stores every source; one that fails does not keep the others from being stored. */
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
      // Nothing is stopped, nor dumped, for what cannot be stored.
      if (gone) throw gone;
      if (hold) await withHold(hold, deps.holdDeps(context.journal, context.log), context.signal, captureGroup);
      else await captureGroup([]);
    } catch (error) {
      // Sources that the hold prevented fail with it. Sources that are stored stay stored, and the failure is reported.
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

/** The outcome of a source whose files may not be consistent for that reason: what is stored counts as a part. */
function withLoss({ report, entry, ...rest }: Captured, why: LifeboatError | undefined): Captured {
  if (!why || report.status === 'failed') return { report, entry, ...rest };
  const error = errorInfo(why);
  const loss =
    report.status === 'ok' ? { status: 'partial' as const, error } : { warnings: [...report.warnings, error.message] };
  return { report: { ...report, ...loss }, entry: { ...entry, ...loss }, ...rest };
}

/** Longest that the sources of a manifest may be, bytes: the rest of it is small. */
const LONGEST = MAX_DOCUMENT - 64 * 1024;

/**
 * Fails the sources with which the manifest would be larger than can be read back (SNAPSHOT_TOO_LARGE), the largest first: it names
 * each pack of a source, and those of a very large volume are many.
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

/** Once a source could not be stored because the destination did not answer: why it still does not, or undefined when it does again. */
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
