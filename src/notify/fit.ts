import { plural } from '../report/format.ts';
import { labelled } from '../report/last-good.ts';
import type { Message } from './message.ts';

/** A limit of a text, and the size of a piece of it in the same unit. */
interface Limit {
  max: number;
  size(text: string): number;
}

/** Limits in UTF-16 code units, as Discord and Telegram count at most. */
export const characters = (max: number): Limit => ({ max, size: (text) => text.length });

/** The first half of a character that takes two code units. */
const HALF = /[\ud800-\udbff]$/;

/**
 * Cuts a text, never inside a character: services refuse half a character. A text that was cut ends in `…`.
 *
 * @param max the most UTF-16 code units, after `mark`
 * @param mark escapes the text for a channel
 */
export function cut(text: string, max: number, mark: (part: string) => string = (part) => part): string {
  const whole = text.toWellFormed();
  if (mark(whole).length <= max) return mark(whole);
  let short = whole.slice(0, max - 1);
  // Escapes make a text longer, at most twice as long.
  while (mark(short).length > max - 1) short = short.slice(0, -1 - Math.floor((mark(short).length - max) / 2));
  return `${mark(short.replace(HALF, ''))}…`;
}

/** The longest single line, in characters. A message of another program may be far longer. */
const MAX_LINE = 1_000;

/**
 * Returns the body of a message as lines that fit a limit: its facts, then what is safe, then what to do. If there is
 * too little room, the last facts are left out, and a line says so.
 *
 * @param mark escapes one line for the channel; the line is already short
 */
export function fitBody(message: Message, limit: Limit, mark: (line: string) => string = (line) => line): string[] {
  const short = (line: string) => mark(cut(line, MAX_LINE));
  const tail = [...message.safe.map(labelled), ...message.next.map((line) => `next: ${line}`)].map(short);
  const cost = (line: string) => limit.size(line) + 1;
  const notice = (left: number) => mark(`and ${plural(left, 'more line')}`);
  let room = limit.max - tail.reduce((sum, line) => sum + cost(line), 0) - cost(notice(message.facts.length));
  const shown: string[] = [];
  for (const fact of message.facts) {
    const line = short(fact);
    room -= cost(line);
    if (room < 0) break;
    shown.push(line);
  }
  const left = message.facts.length - shown.length;
  const body = [...shown, ...(left > 0 ? [notice(left)] : []), ...tail];
  // A tail that is too long by itself loses its end.
  while (body.length > 0 && body.reduce((sum, line) => sum + cost(line), 0) > limit.max) body.pop();
  return body;
}
