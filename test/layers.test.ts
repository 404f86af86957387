import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

/** The shape of src/, as ARCHITECTURE.md describes it. */

const SRC = path.join(import.meta.dirname, '../src');

/**
 * Every folder of src/, from the top down; `''` is src/ itself. The files of a folder may import each other and the
 * files of any lower layer. They never import a folder of their own layer or of a layer above, not even a type.
 */
const LAYERS: string[][] = [
  [''],
  ['commands'],
  ['commands/json'],
  ['app', 'setup'],
  ['http'],
  ['http/page'],
  ['overview'],
  ['daemon'],
  ['drill', 'export', 'import'],
  ['drill/checks'],
  ['restore/all', 'restore/point'],
  ['check', 'restore'],
  ['copy', 'backup', 'kept', 'targets'],
  ['prune', 'trees', 'wal'],
  ['notify', 'wal/spool'],
  ['run'],
  ['record'],
  ['sources/postgres', 'store/exchange', 'store/archive'],
  ['sources/postgres/wal'],
  ['sources/postgres/tables', 'store/content', 'store/wal'],
  ['sources/postgres/load', 'sources/postgres/dump', 'store/chunks', 'store/sqlite', 'store/repository', 'store/known'],
  [
    'sources/postgres/archive',
    'sources/postgres/facts',
    'sources/postgres/throwaway',
    'store/filesystem',
    'store/packs',
  ],
  ['sources/postgres/definitions'],
  ['sources/postgres/server', 'store/objects'],
  ['sources', 'store/seal', 'destinations/s3'],
  ['report/terminal'],
  ['destinations', 'report', 'docker'],
  ['plan'],
  ['plan/messages'],
  ['plan/values'],
  ['base'],
];
/** The composition root. */
const ROOT = 'app';
/** The most files that a folder may have, and src/ itself. */
const MAX_FILES = 25;
const MAX_TOP_FILES = 3;

/** Longest a file may be: longer ones have more than one thing to say. */
const MAX_LINES = 260;
/** Those that may be a little longer, because parting them would only make the reader turn pages. */
const LONG: Record<string, number> = {
  'app/app.ts': 268,
  'cli.ts': 270,
  'daemon/recover.ts': 262,
  'docker/answers.ts': 290,
  'docker/engine.ts': 265,
  'run/state.ts': 262,
  'sources/postgres/facts/facts.ts': 300,
  'store/repository/repository.ts': 260,
};

/** The most lines that a function or method may have. */
const MAX_FUNCTION_LINES = 60;

interface Import {
  target: string;
  names: string;
}

interface Source {
  name: string;
  text: string;
  imports: Import[];
}

const files: Source[] = readdirSync(SRC, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .sort()
  .map((name) => {
    const text = readFileSync(path.join(SRC, name), 'utf8');
    return { name, text, imports: importsOf(name, text) };
  });

function importsOf(name: string, text: string): Import[] {
  const found: Import[] = [];
  const statements =
    /^\s*(?:import|export)\s+(?:type\s+)?([^'";]*?)\s*from\s*'([^']+)'|\bimport\(\s*'([^']+)'\s*\)|^import\s*'([^']+)'/gm;
  for (const [, names = '', from, dynamic, bare] of text.matchAll(statements)) {
    const target = from ?? dynamic ?? bare ?? '';
    found.push({
      target: target.startsWith('.') ? path.posix.join(path.posix.dirname(name), target) : target,
      names,
    });
  }
  return found;
}

const folderOf = (name: string) => (name.includes('/') ? path.posix.dirname(name) : '');
const rank = (folder: string) => LAYERS.findIndex((layer) => layer.includes(folder));
const inside = (target: string) => files.some(({ name }) => name === target);

/**
 * The functions of a file, and the methods of its classes, with their lengths: the formatter gives each its own indent.
 */
function lengthsOf(text: string): { of: string; lines: number }[] {
  const lines = text.split('\n');
  const found: { of: string; lines: number }[] = [];
  let inClass = false;
  for (const [i, line] of lines.entries()) {
    if (/^(export )?(abstract )?class /.test(line)) inClass = true;
    else if (line === '}') inClass = false;
    const [, indent, name] =
      /^()(?:export )?(?:async )?function\*? (\w+)/.exec(line) ??
      ((inClass && /^( {2})(?:private |static |async |get |\*)*(\w+)[(<]/.exec(line)) || []);
    if (indent === undefined || name === undefined) continue;
    const end = lines.findIndex((one, at) => at >= i && new RegExp(`^${indent}\\}`).test(one) && !one.endsWith('{'));
    if (end >= 0) found.push({ of: name, lines: end - i + 1 });
  }
  return found;
}

describe('the layers of src/', () => {
  test('every folder and import is known', () => {
    expect(files.length).toBeGreaterThan(50);
    expect(files.filter(({ name }) => rank(folderOf(name)) === -1).map(({ name }) => name)).toEqual([]);
    const empty = LAYERS.flat().filter((folder) => !files.some(({ name }) => folderOf(name) === folder));
    expect(empty).toEqual([]);
    const relative = files.flatMap(({ name, imports }) =>
      imports
        .filter(({ target }) => target.endsWith('.ts') && !inside(target))
        .map(({ target }) => `${name}: ${target}`),
    );
    expect(relative).toEqual([]);
    // So that the statements are really found: every file but a few leaves says what it needs.
    expect(files.flatMap(({ imports }) => imports).length).toBeGreaterThan(3 * files.length);
  });

  test('folders import only folders of lower layers', () => {
    const wrong = files.flatMap(({ name, imports }) => {
      const from = folderOf(name);
      return imports
        .filter(({ target }) => inside(target))
        .filter(({ target }) => folderOf(target) !== from && rank(folderOf(target)) <= rank(from))
        .map(({ target }) => `${name} → ${target}`);
    });
    expect(wrong).toEqual([]);
  });

  test('no folder is too full', () => {
    const count = (folder: string) => files.filter(({ name }) => folderOf(name) === folder).length;
    expect(count('')).toBeLessThanOrEqual(MAX_TOP_FILES);
    expect(LAYERS.flat().filter((folder) => count(folder) > MAX_FILES)).toEqual([]);
  });

  test('no file imports itself, directly or through others, not even a type', () => {
    const edges = new Map(
      files.map(({ name, imports }) => [
        name,
        imports.filter(({ target }) => inside(target)).map(({ target }) => target),
      ]),
    );
    const cycles: string[] = [];
    const done = new Set<string>();
    const visit = (name: string, trail: string[]) => {
      if (trail.includes(name)) cycles.push([...trail.slice(trail.indexOf(name)), name].join(' → '));
      if (trail.includes(name) || done.has(name)) return;
      for (const next of edges.get(name) ?? []) visit(next, [...trail, name]);
      done.add(name);
    };
    for (const { name } of files) visit(name, []);
    expect(cycles).toEqual([]);
  });

  test('only the composition root makes concrete sources, destinations and notifiers', () => {
    const makers = files.flatMap(({ text }) =>
      [...text.matchAll(/^export function (create\w+)\([\s\S]*?\): ([\w<>[\]]+) \{$/gm)].flatMap(
        ([, name = '', type = '']) =>
          // It is about no service: it sends through any channel.
          /(Source|Destination|Notifier|Channel)$/.test(type) && name !== 'createNotifier' ? [name] : [],
      ),
    );
    for (const known of ['createLocalDestination', 'createPostgresSource', 'createVolumeSource', 'createSlack']) {
      expect(makers).toContain(known);
    }
    const users = files
      .filter(({ name }) => folderOf(name) !== ROOT)
      .flatMap(({ name, imports }) =>
        imports
          .flatMap(({ names }) => names.match(/\w+/g) ?? [])
          .filter((imported) => makers.includes(imported))
          .map((imported) => `${name}: ${imported}`),
      );
    expect(users).toEqual([]);
  });

  test('there are no barrels', () => {
    expect(files.filter(({ name }) => path.basename(name) === 'index.ts').map(({ name }) => name)).toEqual([]);
    expect(files.filter(({ text }) => /^export (\*|\{[^}]*\}) from/m.test(text)).map(({ name }) => name)).toEqual([]);
  });

  test('plan/ does no I/O and reads no clock', () => {
    // node-cron only reads expressions and computes times here; the clock is an argument. picomatch only makes
    // expressions.
    const pure = ['node:path', 'node:util', 'node:crypto', 'node-cron', 'picomatch'];
    const wrong = files
      .filter(({ name }) => name.startsWith('plan/'))
      .flatMap(({ name, text, imports }) => [
        ...imports
          .filter(({ target }) => !inside(target) && !pure.includes(target))
          .map(({ target }) => `${name}: ${target}`),
        ...(
          text.match(/\bDate\.now\b|\bnew Date\(\)|\bperformance\b|\bprocess\.|\bsetTimeout\b|\bMath\.random\b/g) ?? []
        ).map((clock) => `${name}: ${clock}`),
      ]);
    expect(wrong).toEqual([]);
  });

  test('members are private, never #private: one style', () => {
    const hash = /^ {2}(?:static |readonly |async |get |set |\*)*#\w+/m;
    expect(files.filter(({ text }) => hash.test(text)).map(({ name }) => name)).toEqual([]);
    // So that members are really found.
    expect(files.filter(({ text }) => /^ {2}private /m.test(text)).length).toBeGreaterThan(20);
  });

  test('files are short', () => {
    const long = files
      .map(({ name, text }) => ({ name, lines: text.trimEnd().split('\n').length }))
      .filter(({ name, lines }) => lines > (LONG[name] ?? MAX_LINES))
      .map(({ name, lines }) => `${name}: ${lines} lines`);
    expect(long).toEqual([]);
  });

  test('comments are wrapped at 120 columns', () => {
    const wide = files.flatMap(({ name, text }) =>
      text
        .split('\n')
        .flatMap((line, i) => (/^\s*(\/\*\*|\*|\/\/)/.test(line) && [...line].length > 120 ? `${name}:${i + 1}` : [])),
    );
    expect(wide).toEqual([]);
  });

  test('functions are short', () => {
    const long = files.flatMap(({ name, text }) =>
      lengthsOf(text)
        .filter(({ lines }) => lines > MAX_FUNCTION_LINES)
        .map(({ of, lines }) => `${name}: ${of} has ${lines} lines`),
    );
    expect(long).toEqual([]);
    // So that they are really found.
    expect(files.flatMap(({ text }) => lengthsOf(text)).length).toBeGreaterThan(1000);
  });
});
