import { redact } from '../base/redact.ts';

/** Fields that hold only Lifeboat's own words, codes, ids and times. */
const OWN = new Set([
  ...['kind', 'status', 'previousStatus', 'severity', 'trigger', 'verb', 'code', 'attention', 'topic', 'by'],
  ...['id', 'rid', 'snapshot', 'start', 'end', 'at', 'behindSince', 'nextRun', 'proven', 'since', 'from', 'to'],
]);

/**
 * Returns a copy of a report, or of a part of one, without secrets. Lifeboat's own words stay: even with the password
 * `postgres`, the kind of a source is readable.
 */
export function cleanReport<T extends object>(report: T): T {
  const hide = (key: string, part: unknown) => (typeof part === 'string' && !OWN.has(key) ? redact(part) : part);
  return JSON.parse(JSON.stringify(report), hide) as T;
}
