import { redact } from '../base/redact.ts';

/** Fields that hold words, codes, ids and times of Lifeboat's own: no stranger writes to them. */
const OWN = new Set([
  ...['kind', 'status', 'previousStatus', 'severity', 'trigger', 'verb', 'code', 'attention'],
  ...['id', 'rid', 'snapshot', 'start', 'end', 'at', 'behindSince', 'nextRun'],
]);

/**
 * A report or part of one, with every secret taken out of what strangers wrote. Its own words stay: with the password
 * `postgres`, a source's kind is still told.
 */
export function cleanReport<T extends object>(report: T): T {
  const hide = (key: string, part: unknown) => (typeof part === 'string' && !OWN.has(key) ? redact(part) : part);
  return JSON.parse(JSON.stringify(report), hide) as T;
}
