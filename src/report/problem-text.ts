import type { ErrorInfo } from '../base/errors.ts';
import type { Problem } from '../plan/model.ts';
import { oneLine } from './format.ts';
import { type Paint, plainPaint } from './paint.ts';

/** Returns a problem in one line, without its code. A message that names its subject has no prefix. */
export function problemText({ subject, message }: Pick<Problem, 'subject' | 'message'>): string {
  const [who, what] = [oneLine(subject), oneLine(message)];
  return who === '' || isNamedIn(what, who) ? what : `${who}: ${what}`;
}

/**
 * A service may be called like any word or directory. So only a name with a dot, such as `web.media`, and the id of a
 * snapshot count, and the name of a container with which the message begins.
 */
function isNamedIn(message: string, subject: string): boolean {
  if (message.startsWith(`container ${subject} `)) return true;
  const words = message.split(' ').map((word) => word.replace(/[,;:]$/, ''));
  return /.\..|^\d{8}T\d{6}Z-/.test(subject) && words.includes(subject);
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
