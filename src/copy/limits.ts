import { LifeboatError } from '../base/errors.ts';

/**
 * Returns when copying to a place counts as stalled, and the error then.
 *
 * @param limitMs without progress, milliseconds
 */
export function stallLimits(name: string, limitMs: number): { limitMs: number; stalled(): LifeboatError } {
  const message = `copying to ${name} made no progress for ${Math.round(limitMs / 1000)} s`;
  const hint = 'Check the disk, server or network behind it. The next attempt continues where this one stopped.';
  return { limitMs, stalled: () => new LifeboatError('DEST_UNREACHABLE', message, { hint }) };
}
