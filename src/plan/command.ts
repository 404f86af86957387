import type { Parsed } from './values/fields.ts';
import { url } from './values/values.ts';

const SHELL_HINT = `nothing expands or connects commands here; write sh -c '…' for that`;

/**
 * Parses a command for a container into an argument vector. The text is a JSON array (`["sh","-c","…"]`) or words
 * separated by spaces, with quotes and backslashes as in sh. Syntax that needs a shell (`|`, `>`, `&&`, `$NAME`) is
 * refused: nothing here would execute it.
 */
export function parseCommand(text: string): Parsed<readonly string[]> {
  if (text.includes('\0')) return { problem: 'has a NUL byte' };
  const trimmed = text.trim();
  const parsed = /^\[\s*("|\])/.test(trimmed) ? jsonArray(trimmed) : split(trimmed);
  if ('problem' in parsed) return parsed;
  const first = parsed.value[0];
  if (first === undefined || first === '') return { problem: 'names no command' };
  if (/^[A-Za-z_]\w*=/.test(first)) {
    return { problem: 'starts with an assignment', hint: `write env ${first.split('=')[0]}=… before the command` };
  }
  return parsed;
}

/** Parses an http or https URL, or a command as {@link parseCommand} does. */
export function parseHealth(text: string): Parsed<string | readonly string[]> {
  return /^\s*[a-z][a-z0-9+.-]*:\/\//i.test(text) ? url({ path: false })(text) : parseCommand(text);
}

function jsonArray(text: string): Parsed<string[]> {
  const hint = 'write ["program","argument"], or the command without brackets';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { problem: 'is not a JSON array', hint };
  }
  if (!Array.isArray(value) || !value.every((word) => typeof word === 'string')) {
    return { problem: 'is not a JSON array of strings', hint };
  }
  if (value.some((word) => word.includes('\0'))) return { problem: 'has a NUL byte' };
  return { value };
}

/** One piece of a word: single-quoted, double-quoted, escaped, or plain. */
const PIECE = /'([^']*)'|"((?:[^"\\]|\\[\s\S])*)"|\\([\s\S])|([^\s'"\\]+)/y;

function split(text: string): Parsed<string[]> {
  const words: string[] = [];
  let word: string | undefined;
  const piece = new RegExp(PIECE);
  for (let at = 0; at < text.length; ) {
    if (/\s/.test(text[at]!)) {
      if (text[at] === '\n') return { problem: 'has more than one line', hint: SHELL_HINT };
      if (word !== undefined) words.push(word);
      word = undefined;
      at++;
      continue;
    }
    piece.lastIndex = at;
    const match = piece.exec(text);
    if (match === null) return { problem: 'has an open quote or ends with a backslash' };
    const read = readPiece(match);
    if ('problem' in read) return read;
    word = (word ?? '') + read.value;
    at = piece.lastIndex;
  }
  if (word !== undefined) words.push(word);
  return { value: words };
}

function readPiece([, single, double, escaped, plain]: RegExpExecArray): Parsed<string> {
  if (single !== undefined) return { value: single };
  if (escaped !== undefined) return { value: escaped };
  if (double !== undefined) {
    const expands = /^(?:[^\\]|\\[\s\S])*?(\$[\w({@*#?!$-]|`)/.exec(double);
    if (expands !== null) return { problem: `has ${expands[1]!.slice(0, 1)} inside double quotes`, hint: SHELL_HINT };
    return { value: double.replace(/\\(["\\$`])/g, '$1').replace(/\\\n/g, '') };
  }
  const operator = /\$[\w({@*#?!$-]|[|&;<>()`]/.exec(plain!);
  if (operator !== null) return { problem: `has the shell operator ${operator[0].slice(0, 1)}`, hint: SHELL_HINT };
  return { value: plain! };
}
