import type { PointInTime } from '../../plan/values/point-in-time.ts';

/** A point that only the server finds, as it replays: a transaction, or one of `pg_create_restore_point()`. */
export type Marker = { xid: string } | { name: string };

/** The point to which a server is recovered: a time, the end of the stored WAL, a position, or a marker in the WAL. */
export type Target = PointInTime | 'latest' | { lsn: string } | Marker;

/** Returns a target as a user writes it. */
export function describeTarget(target: Target): string {
  if (target === 'latest') return target;
  if ('date' in target) return target.text;
  if ('lsn' in target) return `position ${target.lsn}`;
  return 'xid' in target ? `transaction ${target.xid}` : `restore point ${target.name}`;
}

/** Returns a target like {@link describeTarget}, with the time of its record in the WAL if that is known. */
export function describePoint(target: Target, marker: { time: Date } | undefined): string {
  return `${describeTarget(target)}${marker ? ` of ${marker.time.toISOString()}` : ''}`;
}

/** Returns whether nobody knows in which window a target is. */
export function isMarker(target: Target): target is Marker {
  return target !== 'latest' && ('xid' in target || 'name' in target);
}

const SETTINGS = ['recovery_target_time', 'recovery_target_lsn', 'recovery_target_xid', 'recovery_target_name'];

/**
 * Returns the settings that end a recovery at a target (Postgres docs, 19.5.5), in order; without a point for the end
 * of the WAL. The one with a value is the last: the server refuses any other one after it, even an empty one.
 *
 * A time and a transaction include what they name. A position is where the next record begins, as
 * `pg_current_wal_lsn()` returns it, so the record there is not part of it.
 */
export function targetSettings(target: Target | undefined): [name: string, value: string][] {
  const own = target === undefined || target === 'latest' ? undefined : settingOf(target);
  const others = SETTINGS.filter((name) => name !== own?.[0]).map((name): [string, string] => [name, '']);
  const isPosition = own?.[0] === 'recovery_target_lsn';
  const inclusive: [string, string] = ['recovery_target_inclusive', isPosition ? 'off' : 'on'];
  return [inclusive, ...others, ...(own ? [own] : [])];
}

function settingOf(target: Exclude<Target, 'latest'>): [name: string, value: string] {
  if ('date' in target) return ['recovery_target_time', target.text];
  if ('lsn' in target) return ['recovery_target_lsn', target.lsn];
  return 'xid' in target ? ['recovery_target_xid', target.xid] : ['recovery_target_name', target.name];
}
