import type { ErrorInfo } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import { oneLine } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';

/** Characters that continue a name: `db` is no part of `shop-db-1`. */
const NAME = /[\w.-]/;

/** Returns a problem in one line, without its code. A message that names its subject has no prefix. */
export function problemText({ subject, message }: Pick<Problem, 'subject' | 'message'>): string {
  const [who, what] = [oneLine(subject), oneLine(message)];
  return who === '' || hasName(what, who) ? what : `${who}: ${what}`;
}

function hasName(text: string, name: string): boolean {
  for (let at = text.indexOf(name); at >= 0; at = text.indexOf(name, at + 1)) {
    if (!NAME.test(text[at - 1] ?? ' ') && !NAME.test(text[at + name.length] ?? ' ')) return true;
  }
  return false;
}

/** Returns what follows an error: its cause and its hint, one line each. */
export function detailLines({ cause, hint }: Pick<ErrorInfo, 'cause' | 'hint'>): string[] {
  return [
    ...(cause === undefined ? [] : [`cause: ${oneLine(cause)}`]),
    ...(hint === undefined ? [] : [`hint: ${oneLine(hint)}`]),
  ];
}

/** Renders a problem: `! worker: unknown label … (LABEL_UNKNOWN)`, its cause and its hint. Not redacted. */
export function problemLines(problem: Problem, paint: Paint = plainPaint): string[] {
  const mark = problem.severity === 'error' ? paint.bad('!') : paint.warn('!');
  return [`  ${mark} ${problemText(problem)} (${problem.code})`, ...detailLines(problem).map((line) => `    ${line}`)];
}

/** Returns the problems that none of these errors says already, with the same code and words. */
export function withoutRepeated(problems: readonly Problem[], said: readonly (ErrorInfo | undefined)[]): Problem[] {
  const keyOf = ({ code, message }: Pick<ErrorInfo, 'code' | 'message'>) => JSON.stringify([code, message]);
  const known = new Set(said.flatMap((error) => (error ? [keyOf(error)] : [])));
  return problems.filter((problem) => !known.has(keyOf(problem)));
}
