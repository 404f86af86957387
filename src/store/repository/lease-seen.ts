import type { LeaseObject } from './lease-row.ts';

/** When this process first saw leases that claim more time than a lease has, milliseconds since 1970 by its own clock. */
const seen = new Map<string, number>();

/**
 * Whether a lease has expired at `now`, where leases last `lengthMs`. A wrong clock can date the end of one far ahead. Such a
 * lease ends its own length after this process first saw it: a holder that lives puts the next number long before. If that
 * is wrong, the fence stops one of the two. `place` names the object and who looks.
 */
export function isExpired(
  { token, expires }: LeaseObject,
  look: { place: string; now: number; lengthMs: number },
): boolean {
  const { place, now, lengthMs } = look;
  const end = Date.parse(expires);
  if (now >= end) return true;
  if (end - now <= lengthMs) return false;
  const key = `${place} ${token}`;
  const first = seen.get(key) ?? now;
  seen.set(key, first);
  return now - first >= lengthMs;
}
