import type { ErrorInfo } from '../base/errors.ts';
import { cleanReport } from './clean.ts';
import { formatAge, oneLine } from './format.ts';

/**
 * The subject of an alarm. `wal`: WAL is not received or stored. `wal-gap`: WAL is missing. `wal-behind`: a server
 * keeps much WAL. `rpo`, `rto`: a source does not meet its target.
 */
export type AlarmTopic = 'wal' | 'wal-gap' | 'wal-behind' | 'rpo' | 'rto';

/** A problem outside of runs that people must hear about within minutes, such as missing WAL. */
export interface Alarm {
  project: string;
  topic: AlarmTopic;
  source: string;
  /** ISO time */
  at: string;
  error: ErrorInfo;
  /** what is still safe */
  safe?: string;
  /** the command to type next */
  next?: string;
  /** what the alarm was about is over, and began at `since`, ISO time */
  over?: true;
  since?: string;
}

/** Returns one line about an alarm, redacted: `db.postgres: 2 segments of WAL … (WAL_GAP)`. */
export function alarmText(alarm: Alarm): string {
  const { source, error, over, at, since } = cleanReport(alarm);
  if (!over) return oneLine(`${source}: ${error.message} (${error.code})`);
  const after = since === undefined ? '' : ` after ${formatAge(Date.parse(at) - Date.parse(since))}`;
  return oneLine(`${source}: over${after}: ${error.message}`);
}
