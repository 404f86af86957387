import type { ErrorInfo } from '../base/errors.ts';
import { oneLine, plural } from '../report/format.ts';

/** Texts in Slack's markup, within Slack's limits. */

/**
 * Slack's limit for one text, https://docs.slack.dev/reference/block-kit/composition-objects/text-object; blocks: 50.
 */
export const MAX_TEXT = 3_000;

/** Limits of the commands that a shortened text keeps: their number, and the length of each in characters. */
const MAX_COMMANDS = 3;
const MAX_COMMAND = 300;
/** Stands for a longer command, because a part of a command may do something else. */
const TOO_LONG = 'a command is too long for this message';

/**
 * Escapes a stranger's text for mrkdwn. `&`, `<` and `>` become entities, so nothing in it links or mentions. Backticks
 * become quotes. The result is cut to `max` characters, never inside an entity or a character.
 */
export function mrkdwn(text: string, max: number): string {
  return escapeText(oneLine(text), max);
}

function escapeText(text: string, max: number): string {
  let result = '';
  for (const char of text) {
    const safe = ENTITIES[char] ?? char;
    if (result.length + safe.length > max - 1) return `${result}…`;
    result += safe;
  }
  return result;
}

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '`': "'" };

/**
 * Escapes a text that may contain commands in backticks, such as a hint. If it is longer than `max` characters, only
 * its prose is cut. The commands that no longer fit follow, each whole on a line of its own. A command that does not
 * fit into a message is left out, and the text says so.
 */
export function withCommands(text: string, max: number): string[] {
  const parts = oneLine(text)
    .split(/(`[^`]+`)/)
    .filter((part) => part !== '');
  const lost: string[] = [];
  let shown = '';
  let isCut = false;
  for (const part of parts) {
    const isCommand = part.length > 1 && part.startsWith('`');
    const whole = escapeText(part, Number.POSITIVE_INFINITY);
    const isTooLong = isCommand && whole.length > MAX_COMMAND;
    const escaped = isTooLong ? `(${TOO_LONG})` : whole;
    const fits: boolean = !isCut && shown.length + escaped.length <= max - 1;
    if (fits) shown += escaped;
    else if (isCommand) lost.push(isTooLong ? TOO_LONG : `run: ${escaped}`);
    else if (!isCut) shown += escapeText(part, max - shown.length);
    if (!fits && !isCut && isCommand) shown += '…';
    isCut ||= !fits;
  }
  const more = lost.length - MAX_COMMANDS;
  return [shown, ...lost.slice(0, MAX_COMMANDS), ...(more > 0 ? [`and ${plural(more, 'more command')}`] : [])];
}

/** Returns what follows an error: its cause and its hint. The commands of the hint stay whole. */
export function detailTexts(
  { cause, hint }: Pick<ErrorInfo, 'cause' | 'hint'>,
  max: { cause: number; hint: number },
): string[] {
  const [first, ...commands] = hint === undefined ? [] : withCommands(hint, max.hint);
  return [
    ...(cause === undefined ? [] : [`cause: ${mrkdwn(cause, max.cause)}`]),
    ...(first === undefined ? [] : [`hint: ${first}`, ...commands]),
  ];
}

/** Joins entries line by line to as few texts as Slack's limit allows. Each entry must fit into one text. */
export function joinTexts(entries: readonly string[]): string[] {
  const texts: string[] = [];
  for (const entry of entries) {
    const last = texts.at(-1);
    if (last !== undefined && last.length + entry.length + 1 <= MAX_TEXT) texts[texts.length - 1] = `${last}\n${entry}`;
    else texts.push(entry);
  }
  return texts;
}
