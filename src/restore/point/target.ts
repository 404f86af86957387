import type { PointInTime } from '../../plan/values/point-in-time.ts';

/** A point that only the server finds, as it replays: a transaction, or one of `pg_create_restore_point()`. */
type Marker = { xid: string } | { name: string };

/** The point to which a server is recovered: a time, the end of the stored WAL, a position, or a marker in the WAL. */
export type Target = PointInTime | 'latest' | { lsn: string } | Marker;

/** Returns a target as a user writes it. */
export function describeTarget(target: Target): string {
  if (target === 'latest') return target;
  if ('date' in target) return target.text;
  if ('lsn' in target) return `position ${target.lsn}`;
  return 'xid' in target ? `transaction ${target.xid}` : `restore point ${target.name}`;
}

/** Returns whether nobody knows in which window a target is. */
export function isMarker(target: Target): target is Marker {
  return target !== 'latest' && ('xid' in target || 'name' in target);
}

const SETTINGS = ['recovery_target_time', 'recovery_target_lsn', 'recovery_target_xid', 'recovery_target_name'];

/**
 * Returns the settings that end a recovery at a target (Postgres docs, 19.5.5), in order; none for the end of the WAL.
 * The one with a value is the last: the server refuses any other one after it, even an empty one.
 */
export function targetSettings(target: Target | undefined): [name: string, value: string][] {
  const own = target === undefined || target === 'latest' ? undefined : settingOf(target);
  const others = SETTINGS.filter((name) => name !== own?.[0]).map((name): [string, string] => [name, '']);
  return own ? [...others, own] : others;
}

function settingOf(target: Exclude<Target, 'latest'>): [name: string, value: string] {
  if ('date' in target) return ['recovery_target_time', target.text];
  if ('lsn' in target) return ['recovery_target_lsn', target.lsn];
  return 'xid' in target ? ['recovery_target_xid', target.xid] : ['recovery_target_name', target.name];
}
