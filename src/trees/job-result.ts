import { type ErrorCode, type ErrorInfo, LifeboatError } from '../base/errors.ts';
import type { ProgressSink } from '../report/events.ts';
import { HELPER_ROOT } from '../sources/volume.ts';
import { DATA_ROOT } from '../store/filesystem/area.ts';
import type { TreeJobLine, TreeResult } from './job.ts';

/** Handles the output lines of a job that runs elsewhere. The last line carries its result. */
export function resultOf(progress: ProgressSink, place?: string): { onLine(line: unknown): void; take(): TreeResult } {
  let last: TreeJobLine | undefined;
  return {
    onLine(line) {
      last = line as TreeJobLine;
      if (last.type === 'progress') progress(last.progress);
    },
    take() {
      if (last?.type === 'result') return last.result;
      if (last?.type === 'error') throw fromInfo(last.error, place);
      throw new LifeboatError('HELPER_FAILED', 'a helper ended without a result');
    },
  };
}

const HELPER_PATH = new RegExp(`(?<![\\w./-])(?:${HELPER_ROOT}|${DATA_ROOT})(?![\\w.-])`, 'g');

/**
 * Inverse of `errorInfo`, for errors from another process. Replaces the helper's own path with the name of the place.
 */
function fromInfo(info: ErrorInfo, place = HELPER_ROOT): LifeboatError {
  const named = (text: string) => text.replace(HELPER_PATH, () => place);
  const cause = info.cause === undefined ? undefined : new Error(named(info.cause));
  return new LifeboatError(info.code as ErrorCode, named(info.message), {
    ...(info.hint ? { hint: info.hint } : {}),
    cause,
  });
}
