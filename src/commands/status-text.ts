import { errorOf } from '../backup/others.ts';
import type { HostState } from '../overview/hosts.ts';
import { fallAdvice, fallText } from '../report/fall.ts';
import { formatAge, formatAgo, formatBytes, oneLine, table } from '../report/format.ts';
import type { Paint } from '../report/paint.ts';
import { problemLines } from '../report/problem-text.ts';
import { statusWord } from '../report/status-word.ts';
import type { LastGood } from '../run/history.ts';
import type { Attention, SourceStatus } from '../run/source-status.ts';
import type { SourceTargets } from '../targets/collect.ts';
import { nextCommand, targetText } from '../targets/judge.ts';

const WORDS: Record<Attention, string> = {
  failed: 'failed',
  partial: 'partly failed',
  late: 'late',
  never: 'not backed up yet',
  vanished: 'gone',
  fell: 'lost data?',
  ahead: 'date ahead',
  damaged: 'damaged',
};

/** A source without any whole snapshot has no good one. */
function goodness({ entry }: LastGood): string {
  return entry.status === 'partial' ? 'none whole, newest' : 'last good';
}

/** States that only the snapshots show. */
const NEEDS_SNAPSHOTS: ReadonlySet<Attention | null> = new Set<Attention>(['late', 'never']);

function word({ attention, stopped }: SourceStatus, unread: boolean): string {
  if (stopped !== undefined) return 'not running';
  if (unread && NEEDS_SNAPSHOTS.has(attention)) return 'unknown';
  return attention === null ? 'ok' : WORDS[attention];
}

/**
 * Renders the sources for `status`: a table, then the reason for each source that needs attention.
 *
 * @param unread the destination cannot be read, so the snapshots are unknown
 */
export function renderSourceStatuses(
  all: readonly SourceStatus[],
  { now, paint, unread }: { now: Date; paint: Paint; unread: boolean },
): string[] {
  const rows = all.map((source) => {
    const { name, last, lastGood } = source;
    const ago = last ? formatAgo(new Date(last.at), now) : '';
    const good = lastGood ? `${goodness(lastGood)} ${formatAgo(new Date(lastGood.at), now)}` : undefined;
    const none = unread ? 'snapshots unknown' : 'never backed up';
    const size = lastGood ? formatBytes(lastGood.entry.bytes) : '';
    return [oneLine(name), word(source, unread), ago, good ?? none, size, lastGood?.snapshot ?? ''];
  });
  const lines = table(rows, { indent: 2, align: ['left', 'left', 'left', 'left', 'right'] });
  const why = all.flatMap((source) => {
    const { name, attention, lastGood, fell } = source;
    if (unread && NEEDS_SNAPSHOTS.has(attention)) return [];
    if (attention === 'late')
      return [`  ${paint.bad('!')} ${oneLine(name)}: not backed up at its last two scheduled times`];
    if (attention === 'ahead') {
      const date = `its newest snapshot is dated in the future (${lastGood?.snapshot})`;
      return [`  ${paint.bad('!')} ${oneLine(name)}: ${date}; the clock was ahead then, or is behind now`];
    }
    if (attention === 'fell' && fell) {
      const what = `  ${paint.bad('!')} ${oneLine(name)}: ${oneLine(fallText(fell, now))}`;
      return [what, `    hint: ${fallAdvice(name, fell)}`];
    }
    const error = errorOf(source);
    return error ? problemLines({ severity: 'error', subject: name, ...error }, paint) : [];
  });
  return [...lines, ...why];
}

/** Renders the targets of the sources, one line each, and what to do about those that are not met. */
export function targetLines(all: readonly SourceTargets[], now: Date, paint: Paint): string[] {
  return all.flatMap(({ name, targets }) =>
    targets.flatMap((target) => {
      const text = `${oneLine(name)}: ${oneLine(targetText(target, now))}`;
      if (target.met !== false) return [`    ${text}`];
      const next = nextCommand(name, target);
      return [
        `  ${paint.bad('!')} ${text} (${target.kind === 'rpo' ? 'RPO_MISSED' : 'RTO_MISSED'})`,
        `    next: \`${next}\``,
      ];
    }),
  );
}

/** Renders a project of `status --all-hosts`. */
export function hostLines(host: HostState, now: Date, paint: Paint): string[] {
  const { project, newest, sources, damaged, error } = host;
  const ago = newest === null ? 'no snapshot' : `newest snapshot ${formatAgo(new Date(newest), now)}`;
  const rows = sources.map(({ name, status, lastGood }) => [
    oneLine(name),
    statusWord(status),
    lastGood
      ? `${lastGood.partial ? 'none whole, newest' : 'last good'} ${formatAgo(new Date(lastGood.at), now)}`
      : 'never backed up',
    lastGood ? formatBytes(lastGood.bytes) : '',
    lastGood?.snapshot ?? '',
  ]);
  const errors = [...damaged, ...(error ? [error] : [])];
  return [
    `${paint.bold(oneLine(project))} · ${ago}`,
    ...table(rows, { indent: 2, align: ['left', 'left', 'left', 'right'] }),
    ...rhythmTexts(sources, now).map((text) => `  ${paint.bad('!')} ${text}`),
    ...errors.map(({ message, code }) => `  ${paint.bad('!')} ${oneLine(message)} (${code})`),
  ];
}

/** Returns one text for all sources to which it applies: usually the agent is gone, and all are late. */
function rhythmTexts(sources: HostState['sources'], now: Date): string[] {
  const texts = sources.flatMap(({ name, attention, newest, schedule, usualMs }) => {
    if (attention === 'ahead') {
      return [{ name, text: 'the newest snapshot is dated in the future; the clock was ahead then, or is behind now' }];
    }
    if (attention !== 'late') return [];
    const usually = usualMs === null ? 'rhythm unknown' : `usually every ${formatUsual(usualMs)}`;
    const rhythm = schedule === null ? usually : `scheduled for \`${oneLine(schedule)}\``;
    const since = formatAge(now.getTime() - Date.parse(newest));
    return [{ name, text: `no snapshot for ${since}, ${rhythm}. Does its Lifeboat still run?` }];
  });
  return [...Map.groupBy(texts, ({ text }) => text)].map(
    ([text, same]) => `${same.map(({ name }) => oneLine(name)).join(', ')}: ${text}`,
  );
}

const HOUR_MS = 3_600_000;

/** Rounds: a schedule of a day leaves gaps of a few seconds more or less. */
function formatUsual(ms: number): string {
  const unit = ms < HOUR_MS ? HOUR_MS / 60 : HOUR_MS;
  return formatAge(Math.round(ms / unit) * unit);
}
