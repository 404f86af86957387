import { unlessAborted } from '../base/abort.ts';
import { errorInfo, type LifeboatError, toLifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { HookService, PlannedSource, Problem } from '../plan/model.ts';
import { type FindStarted, withHold } from '../run/hold.ts';
import type { ContainerRef } from '../run/journal.ts';
import type { ReleaseFailure } from '../run/release.ts';
import { later } from '../run/stop-all.ts';
import { readInfo } from '../store/repository/repository-info.ts';
import type { BackupDeps, Capturer, RunContext } from './context.ts';
import { type Freeze, type HoldGroup, joinFreezes } from './freeze.ts';
import type { Captured } from './outcome.ts';
import { groupByHold } from './rules.ts';

interface CaptureAllOptions {
  deps: Pick<BackupDeps, 'dispatcher' | 'holdDeps' | 'capturer'>;
  context: RunContext;
  sources: PlannedSource[];
  /** all services with hooks, see {@link joinFreezes} */
  services?: readonly HookService[];
  captured: Captured[];
  problems: Problem[];
}

/** Captures and stores every source. A failing source does not stop the others. */
export async function captureAll({ sources, services, ...options }: CaptureAllOptions): Promise<void> {
  const capturing: Capturing = { ...options, capturer: options.deps.capturer(options.context) };
  for (const freeze of joinFreezes(groupByHold(sources), services)) {
    await capturing.capturer.share?.();
    await captureFreeze(capturing, freeze);
  }
}

interface Capturing extends Omit<CaptureAllOptions, 'sources' | 'services'> {
  capturer: Capturer;
  /** a container is stopped meanwhile, or its hooks surround the work */
  isHeld?: boolean;
}

/**
 * Captures groups while the hooks surround them. If `pre` fails, the sources of its own service fail, and the others
 * are captured without it.
 */
async function captureFreeze(capturing: Capturing, { hooks: [first, ...hooks], groups }: Freeze): Promise<void> {
  const { deps, context, problems } = capturing;
  if (!first) {
    for (const group of groups) await captureGroup(capturing, group);
    return;
  }
  context.signal.throwIfAborted();
  let isBegun = false;
  try {
    const gone = await whyGone(context, capturing.captured);
    // Without a destination, no command runs.
    if (gone) throw gone;
    const hold = { ...first.hold, onFailure: reportTo(problems) };
    await withHold(hold, deps.holdDeps(context.journal, context.log), context.signal, async () => {
      isBegun = true;
      await captureFreeze({ ...capturing, isHeld: true }, { hooks, groups });
    });
  } catch (error) {
    context.signal.throwIfAborted();
    if (isBegun) {
      problems.push(problemOf(first.hold.container, error));
      return;
    }
    if (first.group.sources.length === 0) problems.push(problemOf(first.hold.container, error));
    for (const source of first.group.sources)
      await captureOne(capturing, source, () => capturing.capturer.failed(source, error));
    await captureFreeze(capturing, { hooks, groups: groups.filter((group) => group !== first.group) });
  }
}

async function captureOne(
  { deps, captured }: Capturing,
  source: PlannedSource,
  work: () => Promise<Captured>,
): Promise<void> {
  deps.dispatcher.emit({ type: 'source-started', source: source.name });
  const one = await work();
  captured.push(one);
  deps.dispatcher.emit({ type: 'source-finished', result: redactDeep(one.report) });
}

/**
 * Returns the outcome of a source, or that it failed if its capture goes on for long after an interruption: a request
 * to a file system that hangs may never end, and the containers have to start.
 */
async function unlessHanging(
  { deps, context, capturer }: Capturing,
  source: PlannedSource,
  capture: Promise<Captured>,
): Promise<Captured> {
  const late = later(context.signal, deps.holdDeps(context.journal, context.log).patienceMs);
  try {
    return await unlessAborted(capture, late.signal);
  } catch (error) {
    return await capturer.failed(source, error);
  } finally {
    late.clear();
  }
}

async function captureGroup(capturing: Capturing, { hold, sources: group }: HoldGroup): Promise<void> {
  const { deps, context, captured, problems, capturer } = capturing;
  context.signal.throwIfAborted();
  const waiting = [...group];
  const captureEach = async (warnings: string[], started: FindStarted = async () => undefined) => {
    for (;;) {
      // The containers of an interrupted run start at once.
      context.signal.throwIfAborted();
      const planned = waiting.shift();
      if (!planned) return;
      if (!hold && !capturing.isHeld) await capturer.share?.();
      const gone = await whyGone(context, captured);
      await captureOne(capturing, planned, async () => {
        if (gone) return capturer.failed(planned, gone);
        const capture = capturer.capture(planned, warnings);
        const one = await (hold || capturing.isHeld ? unlessHanging(capturing, planned, capture) : capture);
        const stop = planned.kind === 'volume' ? planned.stop.map(({ id }) => id) : [];
        return withLoss(one, stop.length > 0 ? await started(stop) : undefined);
      });
    }
  };
  try {
    const gone = await whyGone(context, captured);
    // Without a destination, no container is stopped and nothing is dumped.
    if (gone) throw gone;
    if (hold) {
      const reported = { ...hold, onFailure: reportTo(problems) };
      await withHold(reported, deps.holdDeps(context.journal, context.log), context.signal, captureEach);
    } else await captureEach([]);
  } catch (error) {
    // Sources that were not captured fail with the error. Stored sources stay stored, and the failure becomes a
    // problem of the run. The report says once that the run was interrupted.
    if (waiting.length < group.length && !context.signal.aborted) problems.push(problemOf(hold?.container, error));
    for (const source of waiting) await captureOne(capturing, source, () => capturer.failed(source, error));
  }
}

/** Returns a function that adds failures to release containers to problems. */
function reportTo(problems: Problem[]): (failure: ReleaseFailure) => void {
  return ({ container, error }) => problems.push(problemOf(container, error));
}

/** A problem has no cause of its own, so its message ends with the cause. */
function problemOf(container: ContainerRef | undefined, error: unknown): Problem {
  const { code, message, hint, cause } = errorInfo(error);
  const why = cause === undefined || message.includes(cause) ? message : `${message}: ${cause}`;
  return { severity: 'error', code, subject: container?.name ?? '', message: why, ...(hint ? { hint } : {}) };
}

/** Returns the outcome of a source as partial if `why` says that its files may be inconsistent. */
function withLoss({ report, entry, ...rest }: Captured, why: LifeboatError | undefined): Captured {
  if (!why || report.status === 'failed') return { report, entry, ...rest };
  const error = errorInfo(why);
  const loss =
    report.status === 'ok' ? { status: 'partial' as const, error } : { warnings: [...report.warnings, error.message] };
  return { report: { ...report, ...loss }, entry: { ...entry, ...loss }, ...rest };
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
