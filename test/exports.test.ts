import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

/** What a file of src/ exports is what other files import: of the program, its tests, its benchmarks, or the demo. */

const ROOT = path.join(import.meta.dirname, '..');

const files = ['src', 'test', 'bench', 'docker'].flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const file = path.posix.join(folder, name);
      return { file, text: readFileSync(path.join(ROOT, file), 'utf8') };
    }),
);

/** Of every relative import: the file that is meant, and the names; `*` for all of them. */
function importsOf(file: string, text: string): { target: string; names: string[] }[] {
  const target = (from: string) => path.posix.join(path.posix.dirname(file), from);
  const named = [...text.matchAll(/^\s*import\s+(?:type\s+)?([^'";]+?)\s+from\s+'(\.[^']+)'/gm)].map(
    ([, clause = '', from = '']) => ({ target: target(from), names: namesOf(clause) }),
  );
  const loaded = [
    ...text.matchAll(/(?:const\s+\{([^}]*)\}\s*=\s*await\s+)?\bimport\(\s*'(\.[^']+)'\s*\)(?:\)?\.(\w+))?/g),
  ];
  const later = loaded.map(([, clause, from = '', member]) => ({
    target: target(from),
    names: clause !== undefined ? namesOf(`{${clause}}`) : [member ?? '*'],
  }));
  return [...named, ...later];
}

function namesOf(clause: string): string[] {
  if (clause.includes('*')) return ['*'];
  const inner = /\{([^}]*)\}/.exec(clause)?.[1] ?? '';
  return inner.split(',').map(
    (name) =>
      name
        .replace(/\btype\b/, '')
        .trim()
        .split(/\s+as\s+|:/)[0]
        ?.trim() ?? '',
  );
}

function exportsOf(text: string): string[] {
  const declared =
    /^export\s+(?:declare\s+)?(?:abstract\s+)?(?:async\s+)?(?:const|let|function\*?|class|interface|type|enum)\s+(\w+)/gm;
  return [...text.matchAll(declared)].map(([, name = '']) => name);
}

test('what only its own file uses is not exported', () => {
  const used = new Set(
    files.flatMap(({ file, text }) =>
      importsOf(file, text).flatMap(({ target, names }) => names.map((name) => `${target} ${name}`)),
    ),
  );
  const found = files.filter(({ file }) => file.startsWith('src/'));
  const all = found.flatMap(({ file, text }) => exportsOf(text).map((name) => ({ file, name })));
  // So that the statements are really found.
  expect(all.length).toBeGreaterThan(2 * found.length);
  expect(used.size).toBeGreaterThan(all.length / 2);
  const unused = all.filter(({ file, name }) => !used.has(`${file} ${name}`) && !used.has(`${file} *`));
  expect(unused.map(({ file, name }) => `${file}: ${name}`)).toEqual([]);
});
