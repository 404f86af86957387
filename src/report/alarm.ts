import type { ErrorInfo } from '../base/errors.ts';
import { redact } from '../base/redact.ts';
import { oneLine } from './format.ts';

/** A problem outside of runs that people must hear about within minutes, such as missing WAL. */
export interface Alarm {
  project: string;
  source: string;
  /** ISO time */
  at: string;
  error: ErrorInfo;
  /** what the alarm was about is over */
  over?: true;
}

/** Returns one line about an alarm, redacted: `shop: db.postgres: 2 segments of WAL … (WAL_GAP)`. */
export function alarmText({ project, source, error, over }: Alarm): string {
  const what = over ? `over: ${error.message}` : `${error.message} (${error.code})`;
  const hint = error.hint === undefined || over ? '' : ` — ${error.hint}`;
  return redact(oneLine(`${project}: ${source}: ${what}${hint}`));
}
