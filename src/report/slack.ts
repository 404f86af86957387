import type { Problem } from '../plan/model.ts';
import { alarmText } from './alarm.ts';
import { cleanReport } from './clean.ts';
import { copyBehind } from './copy-text.ts';
import type { CopyReport, OtherSource, RestoreReport, RunReport, SourceReport } from './events.ts';
import { sourceWarnings } from './fall.ts';
import { formatBytes, oneLine, plural } from './format.ts';
import { createPost, type Post } from './http.ts';
import type { Notifier } from './notifier.ts';
import { restoreHeadline, restoreLines, restoreStarted } from './restore-text.ts';
import { failuresFirst, headline, nextRun, nextTry, otherSource, safety, totals } from './text.ts';

/** The text of a block. `verbatim` keeps Slack from turning names into links and mentions. */
interface MrkdwnText {
  type: 'mrkdwn';
  text: string;
  verbatim: true;
}
type SlackBlock = { type: 'section'; text: MrkdwnText } | { type: 'context'; elements: MrkdwnText[] };

/** Body of an incoming webhook's POST. `text` is the fallback for notifications and screen readers. */
export interface SlackMessage {
  text: string;
  blocks: SlackBlock[];
}

/**
 * Slack's limit for one text, https://docs.slack.dev/reference/block-kit/composition-objects/text-object; blocks: 50.
 */
const MAX_TEXT = 3_000;
/** Failures with details, and the sections they may take. Nobody reads a longer message to its end. */
const MAX_FAILURES = 10;
const MAX_FAILURE_SECTIONS = 4;
/** Names in one list. */
const MAX_NAMES = 25;
const MAX_PROBLEMS = 5;

/**
 * Words the message about a run. Failed sources come first, each with its code, hint and last good snapshot. Then come
 * the good ones. Redacted.
 */
export function slackMessage(report: RunReport, when: { now: Date; zone?: string | undefined }): SlackMessage {
  const clean = cleanReport(report);
  const failed = failuresFirst(clean.results).filter((result) => result.status !== 'ok');
  const good = clean.results.filter((result) => result.status === 'ok');
  const title = headline(clean);
  const blocks = [section(`*${mrkdwn(title, 300)}* · ${totals(clean)}`)];
  if (clean.error !== undefined) {
    const hint = clean.error.hint === undefined ? '' : `\nhint: ${mrkdwn(clean.error.hint, 500)}`;
    blocks.push(section(`${mrkdwn(clean.error.message, 1_000)} (${clean.error.code})${hint}`));
  }
  blocks.push(...failureSections(failed, when.now));
  if (good.length > 0) blocks.push(section(goodSources(good)));
  const warned = good.filter((result) => sourceWarnings(result, when.now).length > 0);
  if (warned.length > 0) blocks.push(section(warnings(warned, when.now)));
  const behind = (clean.copies ?? []).filter(({ status }) => status !== 'ok');
  if (behind.length > 0) blocks.push(section(copiesBehind(behind, when.now)));
  if (clean.others !== undefined) blocks.push(section(otherSources(clean.others, when.now)));
  const all = [...clean.problems, ...(clean.copies ?? []).flatMap((copy) => copy.problems ?? [])];
  if (all.length > 0) blocks.push(section(problems(all)));
  blocks.push(context(footer(clean, failed, when)));
  const first = failed[0];
  const reason = clean.error ?? first?.error;
  const subject = clean.error === undefined && first !== undefined ? `${mrkdwn(first.name, 200)} — ` : '';
  const why = reason === undefined ? '' : ` · ${subject}${mrkdwn(reason.message, 500)} (${reason.code})`;
  return { text: `${mrkdwn(title, 300)}${why}`, blocks };
}

function failureSections(failed: readonly SourceReport[], now: Date): SlackBlock[] {
  const sections: string[] = [];
  let shown = 0;
  for (const result of failed.slice(0, MAX_FAILURES)) {
    const entry = failure(result, now);
    const last = sections.at(-1);
    if (last !== undefined && last.length + entry.length + 1 <= MAX_TEXT)
      sections[sections.length - 1] = `${last}\n${entry}`;
    else if (sections.length < MAX_FAILURE_SECTIONS) sections.push(entry);
    else break;
    shown++;
  }
  const rest = failed.slice(shown);
  if (rest.length > 0) {
    sections.push(
      list(
        `and ${plural(rest.length, 'more source')} not ok: `,
        rest.map((result) => mrkdwn(result.name, 100)),
      ),
    );
  }
  return sections.map(section);
}

/** At most about 2,400 characters, so one entry always fits into a section. */
function failure(result: SourceReport, now: Date): string {
  const name = `*${mrkdwn(result.name, 200)}*`;
  const lines: string[] = [];
  if (result.error === undefined) {
    lines.push(`${name} ${result.status} · ${mrkdwn(result.warnings[0] ?? result.summary, 600)}`);
  } else {
    lines.push(`${name} ${result.status} — ${mrkdwn(result.error.message, 600)} (${result.error.code})`);
    if (result.error.cause !== undefined) lines.push(`cause: ${mrkdwn(result.error.cause, 500)}`);
    if (result.error.hint !== undefined) lines.push(`hint: ${mrkdwn(result.error.hint, 500)}`);
  }
  if (result.status === 'failed') lines.push(`safe: ${mrkdwn(safety(result, now), 300)}`);
  return lines.join('\n');
}

function goodSources(good: readonly SourceReport[]): string {
  const items = good.map((result) => {
    const fresh = result.newBytes > 0 ? `${formatBytes(result.newBytes)} new` : 'unchanged';
    return `${mrkdwn(result.name, 200)} ok (${formatBytes(result.bytes)}, ${fresh})`;
  });
  return list('', items);
}

/** Joins as many items as fit with `·`, then says how many more there are. */
function list(start: string, items: readonly string[]): string {
  let text = start;
  for (const [i, item] of items.entries()) {
    const next = `${i === 0 ? '' : ' · '}${item}`;
    if (i === MAX_NAMES || text.length + next.length > MAX_TEXT - 40) {
      return `${text} · and ${plural(items.length - i, 'more', 'more')}`;
    }
    text += next;
  }
  return text;
}

/** Warnings about stored sources, such as one that is suddenly much smaller. At most about 2,700 characters. */
function warnings(warned: readonly SourceReport[], now: Date): string {
  const lines = warned.flatMap((result) =>
    sourceWarnings(result, now).map((text) => `warning: ${mrkdwn(result.name, 150)} — ${mrkdwn(text, 350)}`),
  );
  const left = lines.length - MAX_PROBLEMS;
  return [...lines.slice(0, MAX_PROBLEMS), ...(left > 0 ? [`and ${plural(left, 'more warning')}`] : [])].join('\n');
}

/** Copies that lack something, and for how long. */
function copiesBehind(copies: readonly CopyReport[], now: Date): string {
  const lines = copies.slice(0, MAX_PROBLEMS).flatMap((copy) => {
    const hint = copy.error?.hint;
    return [`! ${mrkdwn(copyBehind(copy, now), 400)}`, ...(hint === undefined ? [] : [`hint: ${mrkdwn(hint, 150)}`])];
  });
  const left = copies.length - MAX_PROBLEMS;
  if (left > 0) lines.push(`and ${plural(left, 'more copy', 'more copies')}`);
  return lines.join('\n');
}

/** Sources that were not part of the run and need attention. */
function otherSources(others: readonly OtherSource[], now: Date): string {
  const lines = others.slice(0, MAX_PROBLEMS).map((other) => `! ${mrkdwn(otherSource(other, now), 550)}`);
  const left = others.length - MAX_PROBLEMS;
  if (left > 0) lines.push(`and ${plural(left, 'more source')}: see \`lifeboat status\``);
  return lines.join('\n');
}

function problems(all: readonly Problem[]): string {
  const lines = all
    .slice(0, MAX_PROBLEMS)
    .map((problem) => `! ${mrkdwn(problem.subject, 150)}: ${mrkdwn(problem.message, 300)} (${problem.code})`);
  const left = all.length - MAX_PROBLEMS;
  if (left > 0) lines.push(`and ${plural(left, 'more problem')}: see \`lifeboat plan\``);
  return lines.join('\n');
}

function footer(
  report: RunReport,
  failed: readonly SourceReport[],
  when: { now: Date; zone?: string | undefined },
): string {
  const stored = report.snapshot === undefined ? 'nothing stored' : `snapshot ${report.snapshot}`;
  const parts = [`${stored} · ${mrkdwn(report.destination, 300)}`];
  if (report.retry !== undefined) parts.push(nextTry(report.retry.at, when));
  if (report.nextRun !== undefined) parts.push(nextRun(report.nextRun, when));
  // Only names without special characters, because people paste this command into a shell.
  const again = failed.map((result) => result.name).filter((name) => /^[\w.-]+$/.test(name));
  if (again.length > 0 && again.length <= 3)
    parts.push(`try again: \`docker compose exec lifeboat lifeboat backup ${again.join(' ')}\``);
  return parts.join(' · ');
}

/**
 * Escapes a stranger's text for mrkdwn. `&`, `<` and `>` become entities, so nothing in it links or mentions. Backticks
 * become quotes. The result is cut to `max` characters, never inside an entity or a character.
 */
export function mrkdwn(text: string, max: number): string {
  let result = '';
  for (const char of oneLine(text)) {
    const safe = ENTITIES[char] ?? char;
    if (result.length + safe.length > max - 1) return `${result}…`;
    result += safe;
  }
  return result;
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '`': "'" };

function section(text: string): SlackBlock {
  return { type: 'section', text: { type: 'mrkdwn', text, verbatim: true } };
}

function context(text: string): SlackBlock {
  return { type: 'context', elements: [{ type: 'mrkdwn', text, verbatim: true }] };
}

function restoreMessage(report: RestoreReport): SlackMessage {
  const clean = cleanReport(report);
  return plainMessage([restoreHeadline(clean), ...restoreLines(clean)]);
}

/** Words a message with the first line in bold. */
function plainMessage([title = '', ...lines]: string[]): SlackMessage {
  const first = mrkdwn(title, 600);
  const rest = lines.slice(0, MAX_NAMES).map((line) => mrkdwn(line, 90));
  return { text: first, blocks: [section([`*${first}*`, ...rest].join('\n'))] };
}

/** Options of {@link createSlack}: `url` is that of an incoming webhook. */
interface SlackOptions {
  url: URL;
  project: string;
  zone?: string | undefined;
  post?: Post;
  now?: () => number;
}

/** Sends one message for each finished run to a Slack incoming webhook. */
export function createSlack({ url, project, zone, post = createPost(), now = Date.now }: SlackOptions): Notifier {
  const send = (message: SlackMessage, signal: AbortSignal) =>
    post({ url, body: JSON.stringify(message), contentType: 'application/json', signal });
  return {
    name: 'slack',
    async handle(event, signal) {
      if (event.type === 'run-finished') await send(slackMessage(event.report, { now: new Date(now()), zone }), signal);
      else if (event.type === 'alarm') await send(plainMessage([alarmText(event.alarm)]), signal);
      else if (event.type === 'restore-started') await send(plainMessage([restoreStarted(event.restore)]), signal);
      else if (event.type === 'restore-finished') await send(restoreMessage(event.report), signal);
    },
    async test(signal) {
      const text = `${mrkdwn(project, 200)}: test message from Lifeboat, no backup was made`;
      await send({ text, blocks: [section(text)] }, signal);
      return `${url.host} accepted the message`;
    },
  };
}
