import {
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  parseDocument,
  type YAMLMap,
} from 'yaml';

/** Inserts lines into the text of a YAML file, at the place of a node. */

/**
 * Uses of one anchor, times the aliases in it, that are resolved. It stops files whose aliases grow without end, and
 * allows large projects in which each service uses one anchor.
 */
const MAX_ALIASES = 10_000;

/** Returns the data of a document, with aliases and merges resolved. @throws ReferenceError for too many aliases */
function dataOf(document: Document.Parsed): unknown {
  return document.toJS({ maxAliasCount: MAX_ALIASES });
}

interface ReadYaml {
  text: string;
  document: Document.Parsed;
  data: unknown;
}

/** The file that was read last: one change after the other reads the result of the change before. */
let last: ReadYaml | undefined;

/** Reads the text of a Compose file. @throws ReferenceError for too many aliases */
export function readYaml(text: string): ReadYaml {
  if (last?.text === text) return last;
  const document = parseDocument(text, { merge: true });
  last = { text, document, data: dataOf(document) };
  return last;
}

/** A Compose file while it is edited. */
export interface Edited {
  text: string;
  /** the file before all changes; `text` may hold changes behind the place at hand */
  document: Document.Parsed;
  data: unknown;
  eol: string;
}

/**
 * Adds lines at the end of a mapping or a sequence: new lines with the indent of its entries, or before the closing
 * bracket. `step`: how many spaces stand for the two of each level in `lines`.
 */
export function insert(file: Edited, node: Node, lines: readonly string[], step = 2): string | undefined {
  const { text, eol } = file;
  if (!(isMap(node) || isSeq(node)) || !node.range) return undefined;
  if (node.flow) {
    const end = node.range[1] - 1;
    const before = text.slice(0, end).trimEnd();
    const comma = node.items.length === 0 || before.endsWith(',') ? ' ' : ', ';
    const items = isSeq(node) ? lines.map((line) => JSON.stringify(line.replace(/^- /, ''))) : lines;
    return `${before}${comma}${items.join(', ')} ${text.slice(end)}`;
  }
  const first = node.items[0];
  if (first === undefined) return undefined;
  const column = isSeq(node) ? columnOf(text, node.range[0]) : columnOf(text, startOf(first));
  return insertLines(
    file,
    endOf(node),
    lines.map((line) => indented(line, column, step)),
    eol,
  );
}

/** Adds lines below an entry without a value, indented from its key. */
export function insertBelow(file: Edited, entry: Pair, lines: readonly string[]): string | undefined {
  const at = rangeOf(entry.key)?.[1];
  if (at === undefined) return undefined;
  const column = columnOf(file.text, startOf(entry));
  return insertLines(
    file,
    at,
    lines.map((line) => indented(line, column, 2)),
    file.eol,
  );
}

function insertLines({ text }: Edited, after: number, lines: readonly string[], eol: string): string {
  const block = lines.map((line) => line + eol).join('');
  if (after > 0 && text[after - 1] === '\n') return text.slice(0, after) + block + text.slice(after);
  const newline = text.indexOf('\n', after);
  if (newline < 0) return `${text}${eol}${block}`;
  return text.slice(0, newline + 1) + block + text.slice(newline + 1);
}

function indented(line: string, column: number, step: number): string {
  if (line === '') return '';
  const level = /^ */.exec(line)?.[0].length ?? 0;
  return ' '.repeat(column + (level / 2) * step) + line.trimStart();
}

/** Returns where the text of a node ends, without the comments that follow it. */
function endOf(node: unknown): number {
  const items = (isMap(node) || isSeq(node)) && !node.flow ? node.items : [];
  const last = items.at(-1);
  if (last === undefined) return rangeOf(node)?.[1] ?? 0;
  if (!isPairLike(last)) return endOf(last);
  return isEmptyScalar(last.value) ? (rangeOf(last.key)?.[1] ?? 0) : endOf(last.value);
}

/** Returns how many spaces the services of a file indent their entries by. */
export function stepOf({ text }: Edited, services: YAMLMap): number {
  for (const entry of services.items) {
    const first = isMap(entry.value) && !entry.value.flow ? entry.value.items[0] : undefined;
    const step = first === undefined ? 0 : columnOf(text, startOf(first)) - columnOf(text, startOf(entry));
    if (step > 0) return step;
  }
  return 2;
}

function isPairLike(value: unknown): value is Pair {
  return typeof value === 'object' && value !== null && 'key' in value && 'value' in value && !isScalar(value);
}

export function isEmptyScalar(node: unknown): boolean {
  return node === null || node === undefined || (isScalar(node) && node.value === null && (node.source ?? '') === '');
}

export function entryOf(node: unknown, key: string): Pair | undefined {
  if (!isMap(node)) return undefined;
  return node.items.find((item) => isScalar(item.key) && item.key.value === key);
}

function rangeOf(node: unknown): readonly [number, number, number] | undefined {
  if (isScalar(node) || isMap(node) || isSeq(node) || isAlias(node)) return node.range ?? undefined;
  return undefined;
}

export function startOf(entry: unknown): number {
  return (isPairLike(entry) ? rangeOf(entry.key)?.[0] : rangeOf(entry)?.[0]) ?? 0;
}

export function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf('\n', offset - 1) + 1);
}
