import type { RunStatus } from './events.ts';
import { oneLine } from './format.ts';
import type { Trigger } from './trigger.ts';

const WORDS: Readonly<Record<RunStatus, string>> = { ok: 'ok', partial: 'partly failed', failed: 'failed' };

/** Returns the status of a run or a source in words. */
export function statusWord(status: RunStatus): string {
  return WORDS[status];
}

/** Why a snapshot was made. `imported`: see manifest.ts */
interface Origin {
  trigger: Trigger;
  imported?: { at: string; file: string; kind?: string | undefined } | undefined;
}

/**
 * Returns why a snapshot was made, and for a snapshot of older data the time of that data, to the second:
 * `import, state of 2026-11-20 13:29:50Z`, `recovery, state of …`.
 */
export function triggerText({ trigger, imported }: Origin): string {
  return imported ? `${oneLine(imported.kind ?? trigger)}, ${stateText(imported)}` : trigger;
}

/** Returns why a snapshot was made, and from what: a file, or the point to which a server was recovered. */
export function originText(made: Origin): string {
  const { imported } = made;
  if (!imported) return made.trigger;
  const file = oneLine(imported.file);
  return imported.kind === 'recovery' ? `${file}, ${stateText(imported)}` : `${triggerText(made)} of ${file}`;
}

function stateText({ at }: { at: string }): string {
  return `state of ${at.slice(0, 19).replace('T', ' ')}Z`;
}
