import type { Alarm } from '../report/alarm.ts';
import type { Waiting } from './outbox-files.ts';

/** A message that waits, and whether somebody has tried to send it. */
type Tried = Waiting & { tried: boolean };

/**
 * Returns the messages about alarms that began and ended while they waited, which is news to nobody. If a message about
 * a beginning was tried, it may have arrived although no answer came. Then the end is still sent.
 *
 * @param waiting in their order
 */
export function endedAlarms<T extends Tried>(waiting: readonly T[]): T[] {
  let all = waiting.filter((one) => alarmsOf(one).length > 0);
  for (;;) {
    const unpaired = unpairedOf(all);
    if (unpaired.size === 0) break;
    all = all.filter((one) => !unpaired.has(one));
  }
  const mayHaveArrived = all.some((one) => one.tried && alarmsOf(one).some(({ over }) => !over));
  return mayHaveArrived ? all.filter((one) => alarmsOf(one).every(({ over }) => !over)) : all;
}

/** Returns the messages with a beginning that has no end among them, or an end that has no beginning. */
function unpairedOf<T extends Waiting>(all: readonly T[]): Set<T> {
  const unpaired = new Set<T>();
  const open = new Map<string, T>();
  for (const one of all) {
    for (const { topic, source, over } of alarmsOf(one)) {
      const key = JSON.stringify([topic, source]);
      const begun = open.get(key);
      if (over) {
        if (!begun) unpaired.add(one);
        open.delete(key);
      } else {
        if (begun) unpaired.add(begun);
        open.set(key, one);
      }
    }
  }
  for (const one of open.values()) unpaired.add(one);
  return unpaired;
}

function alarmsOf({ message: { event } }: Waiting): readonly Alarm[] {
  return event.type === 'alarms' ? event.alarms : [];
}
