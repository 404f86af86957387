import type { RunStatus, Trigger } from './events.ts';

const WORDS: Readonly<Record<RunStatus, string>> = { ok: 'ok', partial: 'partly failed', failed: 'failed' };

/** Returns the status of a run or a source in words. */
export function statusWord(status: RunStatus): string {
  return WORDS[status];
}

/**
 * Returns why a snapshot was made, and for a snapshot of older data the time of that data, to the second:
 * `import, state of 2026-11-20 13:29:50Z`.
 */
export function triggerText({
  trigger,
  imported,
}: {
  trigger: Trigger;
  imported?: { at: string } | undefined;
}): string {
  if (!imported) return trigger;
  return `${trigger}, state of ${imported.at.slice(0, 19).replace('T', ' ')}Z`;
}
