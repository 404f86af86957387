import { type Alarm, alarmText } from '../report/alarm.ts';
import { cleanReport } from '../report/clean.ts';
import { copyBehind } from '../report/copy-text.ts';
import { stillFailing } from '../report/drill-proof.ts';
import type { DrillNews, DrillReport } from '../report/drill-report.ts';
import { drillHeadline, drillLines } from '../report/drill-text.ts';
import { overall, type RestoreReport, type RunEvent, type RunReport, type SourceReport } from '../report/events.ts';
import { sourceWarnings } from '../report/fall.ts';
import { formatBytes, oneLine, plural } from '../report/format.ts';
import { groupSafe, type NamedStored, type Stored } from '../report/last-good.ts';
import { letterText } from '../report/letter.ts';
import { detailLines, problemText } from '../report/problem-text.ts';
import { restoreHeadline, restoreLines, restoreStarted } from '../report/restore-text.ts';
import { againCommand, failuresFirst, headline, nextRun, nextTry, otherSource, totals } from '../report/text.ts';

/** The tone of a message: `bad` and `warning` need a person, `good` says that all is well, `info` needs nobody. */
export type Level = 'bad' | 'warning' | 'good' | 'info';

/** Trouble that begins and ends. One message may be about several. */
export interface Incident {
  /** the same for its beginning and its end: `backup`, or the topic of an alarm */
  key: string;
  over: boolean;
  /** one line */
  summary: string;
}

/** A message for people, in words that every channel can show. Redacted. Commands stand in backticks. */
export interface Message {
  /** the event that it is about; `test`: a sample */
  event: RunEvent | { type: 'test' };
  project: string;
  /** ISO time */
  at: string;
  level: Level;
  incidents: Incident[];
  /** what happened, in one line */
  title: string;
  /** the details, one line each */
  facts: string[];
  /** what is still safe, one line each */
  safe: string[];
  /** what to do next, one line each */
  next: string[];
}

/** The context that a message needs in addition to its event. */
export interface MessageContext {
  now: Date;
  zone?: string | undefined;
  /** when a drill last restored each source, ISO times by its name */
  proven: Readonly<Record<string, string>>;
}

/** Sources with details in one message. Nobody reads a longer message to its end. */
const MAX_SOURCES = 10;
/** Names in one list. */
const MAX_NAMES = 25;
/** Commands that a message names. */
const MAX_COMMANDS = 5;

const STATUS = '`docker compose exec lifeboat lifeboat status`';

/** Words an event. Returns undefined for one that concerns no person. */
export function messageOf(event: RunEvent, context: MessageContext): Message | undefined {
  const base = { at: context.now.toISOString(), event, incidents: [], safe: [], next: [] };
  switch (event.type) {
    case 'run-finished':
      return runMessage(withProven(cleanReport(event.report), context.proven), context);
    case 'alarms':
      return alarmsMessage(event.alarms.map(cleanReport), event.open, context);
    case 'drill-finished': {
      const report = cleanReport(event.report);
      return { ...base, ...drillMessage(report, event), event: { type: event.type, report } };
    }
    case 'restore-started': {
      const restore = cleanReport(event.restore);
      const words = { project: restore.project, level: 'info' as const, title: restoreStarted(restore), facts: [] };
      return { ...base, ...words, event: { type: event.type, restore } };
    }
    case 'restore-finished': {
      const report = cleanReport(event.report);
      return { ...base, ...restoreMessage(report), event: { type: event.type, report } };
    }
    case 'letter': {
      const letter = cleanReport(event.letter);
      const { title, lines: facts, next } = letterText(letter, context);
      return {
        ...base,
        event: { type: event.type, letter },
        project: letter.project,
        level: 'info',
        title,
        facts,
        next,
      };
    }
    default:
      return undefined;
  }
}

/** Returns a sample, which is clearly marked as a test. */
export function sampleMessage(project: string, now: Date): Message {
  return {
    ...{ event: { type: 'test' }, project, at: now.toISOString(), level: 'info', incidents: [] },
    title: `${oneLine(project)}: test message from Lifeboat, no backup was made`,
    facts: ['A real message says here what happened.'],
    safe: ['and here, what is still safe'],
    next: [STATUS],
  };
}

/** Adds to each source when a drill last restored it. */
function withProven(report: RunReport, proven: MessageContext['proven']): RunReport {
  const add = <T extends Stored & { name: string }>(one: T): T => {
    const at = proven[one.name];
    return at === undefined ? one : { ...one, proven: at };
  };
  const { others, safe } = report;
  return {
    ...report,
    results: report.results.map(add),
    ...(others ? { others: others.map(add) } : {}),
    ...(safe ? { safe: safe.map(add) } : {}),
  };
}

function runMessage(report: RunReport, { now, zone }: MessageContext): Message {
  const failed = failuresFirst(report.results).filter(({ status }) => status !== 'ok');
  const status = overall(report);
  const title = headline(report);
  const stored: NamedStored[] = [...failed.filter((one) => one.status === 'failed'), ...(report.safe ?? [])];
  const safe = groupSafe(stored, now).map(({ text, names }) => `${text}: ${listed(names)}`);
  const again = againCommand(report);
  const next = [
    ...(report.retry ? [nextTry(report.retry.at, { now, zone })] : []),
    ...(again === undefined ? [] : [`\`${again}\``]),
    ...(status !== 'ok' && again === undefined && !report.retry ? [STATUS] : []),
    ...(report.nextRun ? [nextRun(report.nextRun, { now, zone })] : []),
  ];
  return {
    event: { type: 'run-finished', report },
    project: report.project,
    at: report.end,
    level: ({ ok: 'good', partial: 'warning', failed: 'bad' } as const)[status],
    incidents: [{ key: 'backup', over: status === 'ok', summary: title }],
    title,
    facts: [totals(report), ...runFacts(report, failed, now)],
    safe,
    next,
  };
}

function runFacts(report: RunReport, failed: readonly SourceReport[], now: Date): string[] {
  const { error, others = [], copies = [], problems } = report;
  const good = report.results.filter(({ status }) => status === 'ok');
  const behind = copies.filter(({ status }) => status !== 'ok');
  const rest = failed.slice(MAX_SOURCES).map(({ name }) => oneLine(name));
  return [
    ...(error ? [`${oneLine(error.message)} (${error.code})`, ...detailLines(error)] : []),
    ...failed.slice(0, MAX_SOURCES).flatMap(failureLines),
    ...(rest.length > 0 ? [`${plural(rest.length, 'more source')} not ok: ${listed(rest)}`] : []),
    ...behind.flatMap((copy) => [copyBehind(copy, now), ...detailLines(copy.error ?? {})]),
    ...others.flatMap((other) => [otherSource(other, now), ...detailLines(other.error ?? {})]),
    ...[...problems, ...copies.flatMap((copy) => copy.problems ?? [])].flatMap((problem) => [
      `${problemText(problem)} (${problem.code})`,
      ...detailLines(problem),
    ]),
    ...good.flatMap((one) => sourceWarnings(one, now).map((text) => `${oneLine(one.name)}: ${oneLine(text)}`)),
    ...(good.length > 0 ? [`ok: ${listed(good.map(goodSource))}`] : []),
  ];
}

function failureLines({ name, status, error, warnings, summary }: SourceReport): string[] {
  const source = oneLine(name);
  if (!error) return [`${source} ${status}: ${oneLine(warnings[0] ?? summary)}`];
  return [`${source} ${status}: ${oneLine(error.message)} (${error.code})`, ...detailLines(error)];
}

function goodSource({ name, bytes, newBytes }: SourceReport): string {
  return `${oneLine(name)} (${formatBytes(bytes)}, ${newBytes > 0 ? `${formatBytes(newBytes)} new` : 'unchanged'})`;
}

/** Joins names, and says how many are left out. */
function listed(names: readonly string[]): string {
  const left = names.length - MAX_NAMES;
  return `${names.slice(0, MAX_NAMES).join(', ')}${left > 0 ? `, and ${left} more` : ''}`;
}

function alarmsMessage(alarms: Alarm[], open: readonly Alarm[], { now }: MessageContext): Message {
  const project = alarms[0]?.project ?? '';
  const [begun, over] = [alarms.filter((one) => !one.over), alarms.filter((one) => one.over)];
  const texts = [...begun, ...over].map(alarmText);
  const what = [
    ...(begun.length > 0 ? [plural(begun.length, 'alarm')] : []),
    ...(over.length > 0 ? [`${plural(over.length, 'alarm')} over`] : []),
  ].join(', ');
  const title =
    texts.length === 1 ? (texts[0] ?? '') : `${what}: ${listed([...new Set(alarms.map((a) => oneLine(a.source)))])}`;
  const hints = new Set(
    begun.flatMap(({ error }) => (error.hint === undefined ? [] : [`hint: ${oneLine(error.hint)}`])),
  );
  const next = new Set(begun.map((one) => (one.next === undefined ? STATUS : `\`${oneLine(one.next)}\``)));
  return {
    event: { type: 'alarms', alarms, open: open.map(cleanReport) },
    project,
    at: now.toISOString(),
    level: begun.length > 0 ? 'bad' : 'good',
    incidents: incidentsOf(alarms, open, texts),
    title: `${oneLine(project)}: ${title}`,
    facts: [...(texts.length === 1 ? [] : texts.slice(0, MAX_NAMES)), ...hints],
    safe: [...new Set(begun.flatMap(({ safe }) => (safe === undefined ? [] : [oneLine(safe)])))].slice(0, MAX_SOURCES),
    next: [...next].slice(0, MAX_COMMANDS),
  };
}

/** Alarms of one topic are one incident, which ends with the last of them. */
function incidentsOf(alarms: readonly Alarm[], open: readonly Alarm[], texts: readonly string[]): Incident[] {
  return [...new Set(alarms.map(({ topic }) => topic))].map((topic) => {
    const over = !open.some((one) => one.topic === topic) && !alarms.some((one) => one.topic === topic && !one.over);
    const about = alarms.filter((one) => one.topic === topic).map(alarmText);
    const more = about.length > 1 ? `, and ${plural(about.length - 1, 'more')}` : '';
    return { key: topic, over, summary: `${about[0] ?? texts[0] ?? ''}${more}` };
  });
}

function drillMessage(
  report: DrillReport,
  { failing = [], ended = false, repeated = false }: DrillNews,
): Pick<Message, 'project' | 'level' | 'incidents' | 'title' | 'facts' | 'next'> {
  const [{ project, status }, title] = [report, drillHeadline(report)];
  // A drill that is not good ends an incident only if nothing is failing any more: its last source may be gone.
  const isResult = status === 'failed' || ended || (status === 'ok' && failing.length === 0);
  const others = stillFailing(report, failing);
  const lines = drillLines(report).map((line) => line.trim());
  if (others.length > 0) lines.push(`still failing since an earlier drill: ${listed(others.map(oneLine))}`);
  return {
    project,
    level: ({ ok: 'good', failed: 'bad', interrupted: 'info', unproven: repeated ? 'info' : 'warning' } as const)[
      status
    ],
    incidents: isResult ? [{ key: 'drill', over: status !== 'failed', summary: title }] : [],
    title,
    facts: lines,
    next: status === 'failed' ? ['`docker compose exec lifeboat lifeboat drills`'] : [],
  };
}

function restoreMessage(report: RestoreReport): Pick<Message, 'project' | 'level' | 'title' | 'facts' | 'safe'> {
  const { project, status, restored, error } = report;
  const isUntouched = restored.length === 0 && status === 'failed' && error?.code !== 'TREE_HALF_RESTORED';
  return {
    project,
    level: ({ ok: 'good', partial: 'warning', failed: 'bad' } as const)[status],
    title: restoreHeadline(report),
    facts: restoreLines(report).map((line) => line.trim()),
    safe: isUntouched ? ['no data was replaced'] : [],
  };
}
