import { type ErrorInfo, errorInfo } from '../../base/errors.ts';
import { plural } from '../../report/format.ts';

/** Snapshots that cannot be used for the same reason, such as another signing key. */
interface DamagedGroup {
  /** the first of them in the given order */
  id: string;
  /** its error; the message also says how many more there are */
  error: ErrorInfo;
}

/**
 * Groups unusable snapshots by reason. A replaced signing key makes every snapshot unusable, and hundreds of lines that
 * differ only in an id would hide all others.
 */
export function groupDamaged(damaged: readonly { id: string; error: Error | ErrorInfo }[]): DamagedGroup[] {
  const groups = new Map<string, DamagedGroup & { more: number }>();
  for (const { id, error } of damaged) {
    const info = error instanceof Error ? errorInfo(error) : error;
    const reason = JSON.stringify([info.code, info.message.replaceAll(id, ''), info.hint?.replaceAll(id, '')]);
    const group = groups.get(reason);
    if (group) group.more += 1;
    else groups.set(reason, { id, error: info, more: 0 });
  }
  return [...groups.values()].map(({ id, error, more }) => {
    if (more === 0) return { id, error };
    const others = `; the same applies to ${plural(more, 'more snapshot')}`;
    return { id, error: { ...error, message: `${error.message}${others}` } };
  });
}
