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

/** Returns the settings that end a recovery at a target (Postgres docs, 19.5.5); none for the end of the WAL. */
export function targetSettings(target: Target | undefined): Record<string, string> {
  const settings = {
    recovery_target_time: '',
    recovery_target_lsn: '',
    recovery_target_xid: '',
    recovery_target_name: '',
  };
  if (target === undefined || target === 'latest') return settings;
  if ('date' in target) return { ...settings, recovery_target_time: target.text };
  if ('lsn' in target) return { ...settings, recovery_target_lsn: target.lsn };
  return 'xid' in target
    ? { ...settings, recovery_target_xid: target.xid }
    : { ...settings, recovery_target_name: target.name };
}
