import type { RunStatus } from './events.ts';
import { oneLine } from './format.ts';
import type { Trigger } from './trigger.ts';

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

/** Returns why a snapshot was made, and from what: a file, or the point to which a server was recovered. */
export function originText(made: { trigger: Trigger; imported?: { at: string; file: string } | undefined }): string {
  const text = triggerText(made);
  const { trigger, imported } = made;
  if (!imported) return text;
  const file = oneLine(imported.file);
  return trigger === 'recovery' ? file + text.slice(trigger.length) : `${text} of ${file}`;
}
