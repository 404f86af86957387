import { errorOf } from '../../backup/others.ts';
import type { DrilledSource } from '../../overview/drills.ts';
import type { Overview } from '../../overview/overview.ts';
import type { PastRun } from '../../overview/past.ts';
import type { SourceWindows } from '../../overview/windows.ts';
import type { PlannedSource } from '../../plan/model.ts';
import { fallAdvice, fallText } from '../../report/fall.ts';
import { formatAge, formatAgo, formatBytes, formatDuration, formatWhen, oneLine } from '../../report/format.ts';
import type { SourceStatus } from '../../run/source-status.ts';
import { nextCommand, type TargetState } from '../../targets/judge.ts';
import { calendarOf } from './calendar.ts';
import { gapsText, lineChart, type Point, strip, windowBar } from './charts.ts';
import { drillFact } from './drills.ts';
import { command, type Html, html, prose, type Tone, time } from './text.ts';
import { troubleOf } from './trouble.ts';

/** The content of a source's card. */
export interface CardInput {
  source: SourceStatus;
  /** absent if it is gone */
  planned?: PlannedSource;
  /** oldest first */
  past: readonly PastRun[];
  windows?: SourceWindows;
  targets: readonly TargetState[];
  /** the last drill that restored it */
  drill?: DrilledSource;
  /** the destination cannot be read, so the snapshots are unknown */
  unread: boolean;
  /** absent if it is that of the project */
  nextRun?: Date;
}

type When = Pick<Overview, 'zone'> & { now: Date };

const MONTH_MS = 31 * 86_400_000;

const STATES: Record<NonNullable<SourceStatus['attention']>, { tone: Tone; text: string }> = {
  failed: { tone: 'bad', text: 'last backup failed' },
  partial: { tone: 'warn', text: 'last backup partly failed' },
  late: { tone: 'bad', text: 'late: two scheduled backups are missing' },
  never: { tone: 'warn', text: 'not backed up yet' },
  vanished: { tone: 'bad', text: 'gone' },
  fell: { tone: 'bad', text: 'has lost data' },
  ahead: { tone: 'warn', text: 'dated in the future' },
  damaged: { tone: 'bad', text: 'its last backup is damaged' },
};

/** Returns the state of a source in words and colour. */
export function stateOf({ source, windows, targets, drill, unread }: CardInput): { tone: Tone; text: string } {
  const { attention, stopped } = source;
  if (stopped) return { tone: 'bad', text: 'its container does not run' };
  if (unread && (attention === null || attention === 'late' || attention === 'never')) {
    return { tone: 'warn', text: 'unknown: the destination cannot be read' };
  }
  if (attention !== null) return STATES[attention];
  const status = drill?.result.status;
  const trouble = troubleOf({ windows, targets, drilled: status === 'ok' || status === 'failed' ? status : undefined });
  if (trouble) return trouble;
  const span = windows && spanOf(windows);
  if (windows && windows.windows.length > 0 && span !== undefined) {
    return { tone: 'ok', text: `safe · any second of the last ${span}` };
  }
  return { tone: 'ok', text: 'safe' };
}

/** The length of the newest window, in words. */
function spanOf({ windows }: SourceWindows): string | undefined {
  const newest = windows.at(-1);
  if (!newest) return undefined;
  return formatAge(Math.max(0, Date.parse(newest.to) - Date.parse(newest.from)));
}

/** Renders the card of a source. */
export function sourceCard(input: CardInput, when: When): Html {
  const { source, past } = input;
  const state = stateOf(input);
  const month = past.filter(({ at }) => Date.parse(at) > when.now.getTime() - MONTH_MS);
  const calendar = calendarOf(month, when.now, when.zone);
  const days = html`${strip(calendar.days, calendar.label)}<div class="scale"><span>${calendar.from}</span>${calendar.failure === undefined ? '' : html`<span>${calendar.failure}</span>`}<span>today</span></div>`;
  const name = oneLine(source.name);
  return html`<section class="card" aria-label="${name}"><div class="head"><h2>${name}</h2><span class="pill ${state.tone}">${state.text}</span></div>
${facts(input, when)}${recoverable(input, when)}${charts(month)}${past.length > 0 ? days : ''}${notes(input, when.now)}${missed(input)}${failedDrill(input)}</section>`;
}

function fact(label: string, value: Html | string): Html {
  return html`<div><dt>${label}</dt><dd class="num">${value}</dd></div>`;
}

function facts(input: CardInput, { now, zone }: When): Html {
  const { source, planned, nextRun } = input;
  const { last, lastGood } = source;
  const items: Html[] = [];
  if (lastGood) {
    const { snapshot, at, entry } = lastGood;
    const label = entry.status === 'partial' ? 'Newest snapshot (partly failed)' : 'Last good snapshot';
    items.push(fact(label, html`<a href="/snapshots/${snapshot}">${time(at, formatAgo(new Date(at), now))}</a>`));
    items.push(
      fact('Holds', [oneLine(entry.summary), formatBytes(entry.bytes)].filter((one) => one !== '').join(' · ')),
    );
  } else items.push(fact('Last good snapshot', 'none'));
  if (last && last.status !== 'ok') items.push(fact('Last run', time(last.at, formatAgo(new Date(last.at), now))));
  if (input.drill) items.push(fact('Last drill', drillFact(input.drill, now)));
  if (planned?.kind !== 'base') items.push(fact('Could be lost now', exposure(input, now)));
  for (const target of input.targets) items.push(targetFact(target));
  if (nextRun) items.push(fact('Next run', formatWhen(nextRun, { now, zone })));
  return html`<dl class="grid">${items}</dl>`;
}

/** Says whether a target is met, such as `10s · met`. */
function targetFact({ kind, targetMs, measuredMs, met }: TargetState): Html {
  const label = kind === 'rpo' ? 'Target for lost work' : 'Target for recovery';
  const took = kind === 'rto' && measuredMs !== undefined ? `, took ${formatDuration(measuredMs)}` : '';
  const state = met === null ? 'not measured yet' : met ? 'met' : 'not met';
  return fact(label, `${formatDuration(targetMs)} · ${state}${took}`);
}

/** The work that the loss of the data would cost now. */
function exposure({ source, planned, windows }: CardInput, now: Date): string {
  const confirmed = windows?.receiver?.confirmed?.at;
  const at = confirmed ?? source.lastGood?.at;
  if (at === undefined) return 'everything';
  const ms = Math.max(0, now.getTime() - Date.parse(at));
  const what = planned?.kind === 'postgres' ? 'work' : 'changes';
  return `${ms < 60_000 ? formatDuration(ms) : formatAge(ms)} of ${what}`;
}

function recoverable({ windows: all }: CardInput, { now, zone }: When): Html | '' {
  if (!all) return '';
  const { windows, holes, receiver, problems } = all;
  const notes = [
    ...(receiver?.error
      ? [html`<p>WAL is not received: ${prose(`${receiver.error.message} (${receiver.error.code})`)}</p>`]
      : []),
    ...problems.map(({ message, code }) => html`<p>${prose(`${message} (${code})`)}</p>`),
    ...holes.map(({ from, to, why }) => {
      const span = `${formatWhen(new Date(from), { now, zone })} to ${formatWhen(new Date(to), { now, zone })}`;
      return html`<p>Not recoverable from ${span}: ${prose(why)}</p>`;
    }),
  ];
  const note = notes.length === 0 ? '' : html`<div class="note">${notes}</div>`;
  const [first, last] = [windows[0], windows.at(-1)];
  if (!first || !last) return html`<p class="soft small">It cannot be recovered to any time yet.</p>${note}`;
  const [from, to] = [first.from, last.to].map((iso) => formatWhen(new Date(iso), { now, zone }));
  const label = `Recoverable to any second from ${from} until ${to}, ${gapsText(holes)}`;
  return html`${windowBar(windows, now.getTime(), label)}<div class="scale"><span>${from}</span><span>recoverable, ${gapsText(holes)}</span><span>${formatAgo(new Date(last.to), now)}</span></div>${note}`;
}

function charts(past: readonly PastRun[]): Html | '' {
  const good = past.filter(({ status }) => status !== 'failed');
  const sizes = good.map(({ at, bytes }): Point => ({ at: Date.parse(at), value: bytes }));
  const times = good.flatMap(({ at, durationMs }): Point[] =>
    durationMs === undefined ? [] : [{ at: Date.parse(at), value: durationMs }],
  );
  const all = [chart('Size', sizes, formatBytes), chart('Duration', times, formatDuration)].filter((one) => one !== '');
  return all.length === 0 ? '' : html`<div class="grid two">${all}</div>`;
}

function chart(what: string, points: readonly Point[], show: (value: number) => string): Html | '' {
  const [first, last] = [points[0], points.at(-1)];
  if (!first || !last || points.length < 3) return '';
  const [least, most] = [Math.min, Math.max].map((pick) => pick(...points.map(({ value }) => value)));
  // A line that never moves says nothing.
  if (least === undefined || most === undefined || show(least) === show(most)) return '';
  const change =
    show(first.value) === show(last.value) ? show(last.value) : `${show(first.value)} → ${show(last.value)}`;
  const peak = show(most) === show(last.value) || show(most) === show(first.value) ? '' : `, at most ${show(most)}`;
  return html`<div><div class="label">${what}, one month</div>${lineChart(points, `${what} over the last month: ${change}${peak}`)}<span class="soft num small">${change}${peak}</span></div>`;
}

/** A name that a person may type into a shell as it is. */
const TYPEABLE = /^[\w.-]+$/;

function notes({ source }: CardInput, now: Date): Html | '' {
  const { name, attention, fell, missing = [], stopped } = source;
  const error = errorOf(source);
  if (attention === null || attention === 'never') return '';
  const typeable = TYPEABLE.test(name);
  const again = typeable && !stopped && attention !== 'ahead' ? command(`backup ${name}`) : '';
  if (attention === 'fell' && fell) {
    return note(
      'bad',
      html`<p><strong>${prose(fallText(fell, now))}</strong></p><p>${prose(`${fallAdvice(name, fell)}.`)}</p>`,
    );
  }
  if (attention === 'late') {
    return note(
      'bad',
      html`<p><strong>It was not backed up at its last two scheduled times.</strong> The log says why: <code>docker compose logs lifeboat</code></p>${again}`,
    );
  }
  if (attention === 'ahead') {
    return note(
      'warn',
      html`<p><strong>Its newest snapshot is dated in the future.</strong> The clock of the host was ahead then, or is behind now.</p>`,
    );
  }
  if (attention === 'damaged') {
    return note(
      'bad',
      html`<p><strong>A check found damage in its last good snapshot.</strong> The next backup stores the damaged content again.</p>${again}`,
    );
  }
  if (!error) return '';
  const gone = missing.map(({ database, lastGood }) => {
    const held = lastGood
      ? `last stored ${formatAgo(new Date(lastGood.at), now)} in ${lastGood.snapshot}`
      : 'never stored';
    return html`<p>Database ${oneLine(database)}: ${held}.</p>`;
  });
  const hint = error.hint === undefined ? '' : html`<p>${prose(error.hint)}</p>`;
  const cause = error.cause === undefined ? '' : html`<p class="soft">Cause: ${prose(error.cause)}</p>`;
  const next = attention === 'vanished' ? '' : again;
  const tone = attention === 'partial' ? 'warn' : 'bad';
  return note(tone, html`<p><strong>${prose(error.message)}</strong> (${error.code})</p>${cause}${gone}${hint}${next}`);
}

/** Says why a target is not met, and the command to type. */
function missed({ source, targets }: CardInput): Html[] {
  return targets
    .filter(({ met }) => met === false)
    .map((target) => {
      const what = target.kind === 'rpo' ? 'The target for lost work is not met' : 'The target for recovery is not met';
      const next = TYPEABLE.test(source.name)
        ? command(nextCommand(source.name, target).replace(/^lifeboat /, ''))
        : '';
      return note('warn', html`<p><strong>${what}</strong>: ${prose(target.why ?? '')}</p>${next}`);
    });
}

function failedDrill({ drill }: CardInput): Html | '' {
  if (drill?.result.status !== 'failed') return '';
  const { report, result } = drill;
  const why = result.error ? html`: ${prose(`${result.error.message} (${result.error.code})`)}` : '';
  return note(
    'bad',
    html`<p><strong>Its last drill failed</strong>${why}. <a href="/drills/${report.id}">The report</a> shows what differs.</p>`,
  );
}

function note(tone: 'warn' | 'bad', body: Html): Html {
  return html`<div class="note ${tone}">${body}</div>`;
}
