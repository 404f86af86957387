import type { Problem } from '../plan/model.ts';
import { cleanReport } from '../report/clean.ts';
import { copyBehind } from '../report/copy-text.ts';
import type { CopyReport, OtherSource, RunReport, SourceReport } from '../report/events.ts';
import { sourceWarnings } from '../report/fall.ts';
import { formatBytes, plural } from '../report/format.ts';
import { groupSafe, labelled, type NamedStored, safety } from '../report/last-good.ts';
import { problemText } from '../report/problem-text.ts';
import {
  againCommand,
  errorsOf,
  failuresFirst,
  headline,
  nextRun,
  nextTry,
  otherSource,
  totals,
} from '../report/text.ts';
import type { Channel } from './channel.ts';
import { createPost, type Post } from './http.ts';
import type { Message } from './message.ts';
import { detailTexts, joinTexts, MAX_TEXT, mrkdwn, withCommands } from './slack-text.ts';

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

/** Failures with details, and the sections they may take. Nobody reads a longer message to its end. */
const MAX_FAILURES = 10;
const MAX_FAILURE_SECTIONS = 4;
/** Names in one list. */
const MAX_NAMES = 25;
const MAX_PROBLEMS = 5;
/** Limits for the cause and the hint of an error, in characters. Commands of the hint come on top. */
const DETAILS = { cause: 400, hint: 500 };

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
    const { error } = clean;
    const lines = [`${mrkdwn(error.message, 800)} (${error.code})`, ...detailTexts(error, DETAILS)];
    blocks.push(section(lines.join('\n')));
  }
  if (clean.safe !== undefined) blocks.push(...safeSources(clean.safe, when.now));
  blocks.push(...failureSections(failed, when.now));
  if (good.length > 0) blocks.push(section(goodSources(good)));
  const warned = good.filter((result) => sourceWarnings(result, when.now).length > 0);
  if (warned.length > 0) blocks.push(...warnings(warned, when.now));
  const behind = (clean.copies ?? []).filter(({ status }) => status !== 'ok');
  if (behind.length > 0) blocks.push(...copiesBehind(behind, when.now));
  if (clean.others !== undefined) blocks.push(...otherSources(clean.others, when.now));
  const all = [...clean.problems, ...(clean.copies ?? []).flatMap((copy) => copy.problems ?? [])];
  if (all.length > 0) blocks.push(...problems(all));
  blocks.push(context(footer(clean, when)));
  return { text: `${mrkdwn(title, 300)}${mainReason(clean, failed, when.now)}`, blocks };
}

/** Returns the first reason why a run is not ok, for the notification on a phone: ` · db.postgres — … (CODE)`. */
function mainReason(report: RunReport, [first]: readonly SourceReport[], now: Date): string {
  const { error, copies = [] } = report;
  if (error) return ` · ${mrkdwn(error.message, 500)} (${error.code})`;
  if (first?.error) return ` · ${mrkdwn(first.name, 200)} — ${mrkdwn(first.error.message, 500)} (${first.error.code})`;
  const behind = copies.find(({ status }) => status !== 'ok');
  if (behind) return ` · ${mrkdwn(copyBehind(behind, now), 500)}`;
  const [problem] = errorsOf(report);
  return problem === undefined ? '' : ` · ${mrkdwn(problemText(problem), 500)} (${problem.code})`;
}

function failureSections(failed: readonly SourceReport[], now: Date): SlackBlock[] {
  const sections: string[] = [];
  let shown = 0;
  for (const result of failed.slice(0, MAX_FAILURES)) {
    const joined = joinTexts([...sections, failure(result, now)]);
    if (joined.length > MAX_FAILURE_SECTIONS) break;
    sections.splice(0, sections.length, ...joined);
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

/** At most about 2,900 characters, so one entry always fits into a section. */
function failure(result: SourceReport, now: Date): string {
  const name = `*${mrkdwn(result.name, 200)}*`;
  const lines: string[] = [];
  if (result.error === undefined) {
    lines.push(`${name} ${result.status} · ${mrkdwn(result.warnings[0] ?? result.summary, 600)}`);
  } else {
    lines.push(`${name} ${result.status} — ${mrkdwn(result.error.message, 500)} (${result.error.code})`);
    lines.push(...detailTexts(result.error, DETAILS));
  }
  if (result.status === 'failed') lines.push(labelled(mrkdwn(safety(result, now), 300)));
  return lines.join('\n');
}

function goodSources(good: readonly SourceReport[]): string {
  const items = good.map((result) => {
    const fresh = result.newBytes > 0 ? `${formatBytes(result.newBytes)} new` : 'unchanged';
    return `${mrkdwn(result.name, 200)} ok (${formatBytes(result.bytes)}, ${fresh})`;
  });
  return list('', items);
}

/** Lists the last good snapshots of the sources after a run that failed as a whole. */
function safeSources(safe: readonly NamedStored[], now: Date): SlackBlock[] {
  const groups = groupSafe(safe, now);
  const lines = groups.map(({ text, names }) => {
    const left = names.length - MAX_NAMES;
    const shown = names.slice(0, MAX_NAMES).map((name) => mrkdwn(name, 100));
    return `${labelled(mrkdwn(text, 300))}: ${shown.join(', ')}${left > 0 ? `, and ${left} more` : ''}`;
  });
  const left = groups.slice(MAX_PROBLEMS).flatMap(({ names }) => names).length;
  return atMost(lines, () => `and ${plural(left, 'more source')}: see \`lifeboat status\``);
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

/** Warnings about stored sources, such as one that is suddenly much smaller. */
function warnings(warned: readonly SourceReport[], now: Date): SlackBlock[] {
  const all = warned.flatMap((result) =>
    sourceWarnings(result, now).map((text) => {
      const [first, ...commands] = withCommands(text, 450);
      return [`warning: ${mrkdwn(result.name, 150)} — ${first}`, ...commands].join('\n');
    }),
  );
  return atMost(all, (left) => `and ${plural(left, 'more warning')}`);
}

/** Copies that lack something, and for how long. */
function copiesBehind(copies: readonly CopyReport[], now: Date): SlackBlock[] {
  const all = copies.map((copy) =>
    [`! ${mrkdwn(copyBehind(copy, now), 400)}`, ...detailTexts(copy.error ?? {}, DETAILS)].join('\n'),
  );
  return atMost(all, (left) => `and ${plural(left, 'more copy', 'more copies')}`);
}

/** Sources that were not part of the run and need attention. */
function otherSources(others: readonly OtherSource[], now: Date): SlackBlock[] {
  const all = others.map((other) =>
    [`! ${mrkdwn(otherSource(other, now), 550)}`, ...detailTexts(other.error ?? {}, DETAILS)].join('\n'),
  );
  return atMost(all, (left) => `and ${plural(left, 'more source')}: see \`lifeboat status\``);
}

function problems(all: readonly Problem[]): SlackBlock[] {
  const entries = all.map((problem) =>
    [`! ${mrkdwn(problemText(problem), 450)} (${problem.code})`, ...detailTexts(problem, DETAILS)].join('\n'),
  );
  return atMost(entries, (left) => `and ${plural(left, 'more problem')}: see \`lifeboat plan\``);
}

/** Returns the first entries, and a line about the number of the others. */
function atMost(entries: readonly string[], more: (left: number) => string): SlackBlock[] {
  const left = entries.length - MAX_PROBLEMS;
  return joinTexts([...entries.slice(0, MAX_PROBLEMS), ...(left > 0 ? [more(left)] : [])]).map(section);
}

function footer(report: RunReport, when: { now: Date; zone?: string | undefined }): string {
  const stored = report.snapshot === undefined ? 'nothing stored' : `snapshot ${report.snapshot}`;
  const parts = [`${stored} · ${mrkdwn(report.destination, 300)}`];
  if (report.retry !== undefined) parts.push(nextTry(report.retry.at, when));
  if (report.nextRun !== undefined) parts.push(nextRun(report.nextRun, when));
  const again = againCommand(report);
  if (again !== undefined) parts.push(`try again: \`${again}\``);
  return parts.join(' · ');
}

function section(text: string): SlackBlock {
  return { type: 'section', text: { type: 'mrkdwn', text, verbatim: true } };
}

function context(text: string): SlackBlock {
  return { type: 'context', elements: [{ type: 'mrkdwn', text, verbatim: true }] };
}

/** Words a message with the first line in bold. */
function plainMessage({ title: words, facts, safe, next }: Message): SlackMessage {
  const first = mrkdwn(words, 600);
  const left = facts.length - MAX_NAMES;
  // The last line may say how to undo a restore.
  const shown =
    left > 0 ? [...facts.slice(0, MAX_NAMES - 1), `and ${plural(left, 'more line')}`, ...facts.slice(-1)] : facts;
  const lines = [...shown, ...safe.map(labelled), ...next.map((line) => `next: ${line}`)];
  const rest = lines.flatMap((line) => withCommands(line, 400));
  return { text: first, blocks: joinTexts([`*${first}*`, ...rest]).map(section) };
}

/** Options of {@link createSlack}: `url` is that of an incoming webhook. */
interface SlackOptions {
  url: URL;
  zone?: string | undefined;
  post?: Post;
  now?: () => number;
}

/** Sends messages to a Slack incoming webhook. A run is shown source by source. */
export function createSlack({ url, zone, post = createPost(), now = Date.now }: SlackOptions): Channel {
  return {
    name: 'slack',
    async send(message, signal) {
      const { event } = message;
      const body =
        event.type === 'run-finished'
          ? slackMessage(event.report, { now: new Date(now()), zone })
          : plainMessage(message);
      await post({ url, body: JSON.stringify(body), contentType: 'application/json', signal });
      return `${url.host} accepted the message`;
    },
  };
}
