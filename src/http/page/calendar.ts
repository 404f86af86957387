import type { PastRun } from '../../overview/past.ts';
import { plural } from '../../report/format.ts';
import type { Day } from './charts.ts';

/** The number of days in the strip, including today. */
const DAYS = 31;

const DAY_MS = 86_400_000;
/** Days are named by their noon in UTC. */
const SHOWN = new Intl.DateTimeFormat('en-GB', { timeZone: 'UTC', day: 'numeric', month: 'short' });

/** The strip of a source. */
interface Calendar {
  /** oldest first */
  days: Day[];
  /** what it shows, in words */
  label: string;
  /** first and last day in words, and what failed last */
  from: string;
  failure?: string;
}

/**
 * Sorts the runs of the last month into days. The worst result of a day counts, unless a later run of that day was
 * good: then the night ended well.
 *
 * @param past oldest first
 */
export function calendarOf(past: readonly PastRun[], now: Date, zone: string): Calendar {
  const dayName = new Intl.DateTimeFormat('en-CA', {
    timeZone: zone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
  });
  const runs = Map.groupBy(past, ({ at }) => dayName.format(new Date(at)));
  // From noon to noon, so that no change to summer time repeats or skips a day.
  const noon = Date.parse(`${dayName.format(now)}T12:00:00Z`);
  const counts = { good: 0, partial: 0, failed: 0 };
  let failure: string | undefined;
  const days = Array.from({ length: DAYS }, (_, i): Day => {
    const moment = new Date(noon - (DAYS - 1 - i) * DAY_MS);
    const day = moment.toISOString().slice(0, 10);
    const name = SHOWN.format(moment);
    const of = runs.get(day) ?? [];
    const last = of.at(-1);
    if (!last) return { state: 'n', title: `${name}: no run` };
    const why = of.findLast(({ code }) => code !== undefined)?.code;
    const because = why === undefined ? '' : ` (${why})`;
    if (last.status === 'ok') {
      counts.good += 1;
      return {
        state: '',
        title: `${name}: ${of.length === 1 ? 'good' : `${plural(of.length, 'run')}, the last one good`}`,
      };
    }
    const word = last.status === 'failed' ? 'failed' : 'partly failed';
    failure = `${name} ${word}${because}`;
    counts[last.status === 'failed' ? 'failed' : 'partial'] += 1;
    return { state: last.status === 'failed' ? 'f' : 'p', title: `${name}: ${word}${because}` };
  });
  const parts = [
    `${counts.good} good`,
    ...(counts.partial > 0 ? [`${counts.partial} partly failed`] : []),
    ...(counts.failed > 0 ? [`${counts.failed} failed`] : []),
  ];
  const label = `Last ${plural(DAYS, 'day')}: ${parts.join(', ')}`;
  const from = SHOWN.format(new Date(noon - (DAYS - 1) * DAY_MS));
  return { days, label, from, ...(failure === undefined ? {} : { failure }) };
}
