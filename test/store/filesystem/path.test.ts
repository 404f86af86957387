import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseGlob } from '../../../src/plan/values/glob.ts';
import { compileGlobs, selectByGlobs } from '../../../src/store/filesystem/glob.ts';
import {
  comparePaths,
  decodePath,
  displayPath,
  encodePath,
  entryName,
  isSafePath,
  isWithin,
  parentOf,
  pathFromText,
  pathOfEntry,
  pathUnder,
} from '../../../src/store/filesystem/path.ts';
import { treePath } from '../arbitrary.ts';

const numRuns = 300;
describe('paths', () => {
  test('any path has one JSON form, and survives the round trip', () => {
    fc.assert(
      fc.property(treePath, (path) => {
        expect(isSafePath(path)).toBe(true);
        expect(decodePath(JSON.parse(JSON.stringify(encodePath(path))))).toBe(path);
      }),
      { numRuns },
    );
    expect(decodePath({ base64: Buffer.from('text').toString('base64') })).toBeUndefined();
    expect(decodePath({ base64: '/w' })).toBeUndefined();
    expect(decodePath({ text: '\ud800' })).toBeUndefined();
  });

  test('any path has an entry name that zip programs preserve, and survives the round trip', () => {
    fc.assert(
      fc.property(treePath, (path) => {
        const entry = entryName(path);
        expect(pathOfEntry(entry)).toBe(path);
        expect(entry).not.toMatch(/[\p{Cc}\\]|^\/|^\w+:/u);
        expect(entry.isWellFormed()).toBe(true);
      }),
      { numRuns },
    );
    expect(entryName('media/caf\xc3\xa9 1.jpg')).toBe('media/café 1.jpg');
    expect(entryName('a%b')).toBe('a%25b');
    expect(entryName('\xff')).toBe('%FF');
    expect(entryName('c:x')).toBe('c%3Ax');
  });

  test('the order is that of a depth-first walk over sorted names', () => {
    const sorted = ['', 'a', 'a/b', 'a/b/c', 'a/b!', 'a/c', 'a\x01', 'a!', 'a-b', 'a.b', 'a0', 'b', '\xff'];
    expect([...sorted].reverse().sort(comparePaths)).toEqual(sorted);
    fc.assert(
      fc.property(treePath, treePath, treePath, (a, b, c) => {
        expect(Math.sign(comparePaths(a, b))).toBe(-Math.sign(comparePaths(b, a)) + 0);
        if (comparePaths(a, b) < 0 && comparePaths(b, c) < 0) expect(comparePaths(a, c)).toBeLessThan(0);
        const parts = (path: string) => path.split('/');
        const byParts = () => {
          for (let i = 0; ; i++) {
            const [x, y] = [parts(a)[i], parts(b)[i]];
            if (x === undefined || y === undefined) return parts(a).length - parts(b).length;
            if (x !== y) return x < y ? -1 : 1;
          }
        };
        expect(Math.sign(comparePaths(a, b))).toBe(Math.sign(byParts()));
      }),
      { numRuns },
    );
  });

  test('paths that leave a tree are not safe', () => {
    for (const path of ['/', '/a', 'a/', 'a//b', '..', 'a/..', '../a', 'a/../b', '.', './a', 'a\0b'])
      expect(isSafePath(path), path).toBe(false);
    for (const path of ['', 'a', '...', '..a', 'a/.b', '-', 'a b']) expect(isSafePath(path), path).toBe(true);
  });

  test('small helpers', () => {
    expect(parentOf('a/b/c')).toBe('a/b');
    expect(parentOf('a')).toBe('');
    expect(isWithin('a/b', 'a')).toBe(true);
    expect(isWithin('ab', 'a')).toBe(false);
    expect(displayPath('\xff')).toBe('\ufffd');
    expect(displayPath('')).toBe('.');
    expect(pathUnder('/x/')('a\xff')).toEqual(Buffer.from('/x/a\xff', 'latin1'));
    expect(pathUnder('/')('')).toEqual(Buffer.from('/'));
    expect(pathUnder('/é')('')).toEqual(Buffer.from('/é'));
  });
});

describe('globs', () => {
  const cases: [string, string, boolean][] = [
    ['*.tmp', 'a.tmp', true],
    ['*.tmp', 'deep/in/a.tmp', true],
    ['*.tmp', 'a.tmp.keep', false],
    ['/a', 'a', true],
    ['/a', 'b/a', false],
    ['a/b', 'a/b', true],
    ['a/b', 'x/a/b', false],
    ['a/*', 'a/b', true],
    ['a/*', 'a/b/c', false],
    ['a/**', 'a/b/c', true],
    ['**/c', 'a/b/c', true],
    ['**/c', 'c', true],
    ['a/**/c', 'a/c', true],
    ['a/**/c', 'a/x/y/c', true],
    ['a/**/c', 'a/xc', false],
    ['?', 'é', true],
    ['?', '/', false],
    ['f?o', 'foo', true],
    ['f?o', 'fo', false],
    ['[a-c]x', 'bx', true],
    ['[!a-c]x', 'bx', false],
    ['[^a-c]x', 'dx', true],
    ['a[!x]b/c', 'a/b/c', false],
    ['[]]', ']', true],
    ['[a', '[a', true],
    ['a-b', 'a-b', true],
    ['[a-]', '-', true],
    ['[z-a]', '-', true],
    ['\\*', '*', true],
    ['\\*', 'x', false],
    ['a.b', 'axb', false],
    ['(x|y)', 'x', false],
    ['$^+', '$^+', true],
    ['a\nb', 'a\nb', true],
    ['*', 'a\nb', true],
    ['?', '😀', true],
    ['[😀é]', 'é', true],
    ['caf\\é', 'café', true],
    ['\\d', 'd', true],
    ['\\d', '1', false],
    ['[\\d]', '1', false],
    ['x[+-9]y', 'x/y', false],
    ['x[+-9]y', 'x5y', true],
    ['[/]', '[', false],
    ['[!/]', 'x', true],
    ['[!]a]x', ']x', false],
    ['[!]a]x', 'bx', true],
    ['[ab]+', 'aa', false],
    ['a{2}', 'aa', false],
    ['a{2}', 'a{2}', true],
    ['"a"', '"a"', true],
    ['@(a)', 'a', false],
    ['!a', 'b', false],
    ['#a,b%&-~;', '#a,b%&-~;', true],
    ['a\\', 'a\\', true],
    ['cache/**', 'cache', false],
    ['*', '.hidden', true],
    ['**', 'a/.hidden/b', true],
    ['*.{jpg,png}', 'a/b.png', true],
    ['*.{jpg,png}', 'a/b.gif', false],
    ['{a,b{c,d}}/x', 'bd/x', true],
    ['{**/a,b}/c', 'a/c', true],
    ['a{,b}', 'a', true],
    ['{a\\,b,c}', 'a,b', true],
    ['\\{a,b}', '{a,b}', true],
    ['{uuid}.{jpg,png}', '{uuid}.jpg', true],
    ['a{b', 'a{b', true],
    ['{*.jpg,up/**}', 'x/y.jpg', true],
    ['{*.jpg,up/**}', 'x/up/y', false],
    ['{*.jpg,up/**}', 'up/y', true],
    ['a{1..3}', 'a2', false],
  ];
  test.each(cases)('%j on %j: %s', (glob, path, expected) => {
    expect(compileGlobs([glob])(pathFromText(path), false)).toBe(expected);
  });

  test('a trailing slash matches directories only, and nothing matches the root', () => {
    const matches = compileGlobs(['cache/']);
    expect(matches('x/cache', true)).toBe(true);
    expect(matches('x/cache', false)).toBe(false);
    expect(compileGlobs(['**', '*'])('', true)).toBe(false);
    expect(compileGlobs([])('a', false)).toBe(false);
  });

  test('selecting a directory selects its content', () => {
    const selects = selectByGlobs(['uploads/2026', '*.jpg']);
    expect(['uploads/2026', 'uploads/2026/a/b', 'x/y.jpg'].every((path) => selects(path, false))).toBe(true);
    expect(['uploads', 'uploads/2025/x', 'uploads/20261'].some((path) => selects(path, true))).toBe(false);
  });

  test('no glob produces an invalid expression or hangs', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'a*?[]!^-\\/.é()+{},'), maxLength: 12 }),
        treePath,
        (glob, path) => {
          if ('problem' in parseGlob(glob)) return;
          expect(typeof compileGlobs([glob])(path, true)).toBe('boolean');
        },
      ),
      { numRuns },
    );
  });

  test('a quoted name matches only itself', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ab*?[]!^-\\.é()+{},😀$|"\'#\n '), minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(text, text, (name, other) => {
        const matches = compileGlobs([name.replace(/[^\w]/gu, '\\$&')]);
        expect(matches(pathFromText(name), false)).toBe(true);
        expect(matches(pathFromText(other), false)).toBe(other === name);
      }),
      { numRuns },
    );
  });

  test('a glob that would take days for one name is refused', () => {
    expect(() => compileGlobs(['*a*a*a*a*a*a*a*b'])).toThrow(/more wildcards/);
    expect(() => compileGlobs(['{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}'])).toThrow(/100 alternatives/);
    expect(() => compileGlobs(['{'.repeat(1000) + '{a,b}'.repeat(1000)])).toThrow(/100 alternatives/);
    expect(compileGlobs(['*a*a*b'])('a'.repeat(255), false)).toBe(false);
    expect(compileGlobs(['**/a/**/a/b'])(`${'a/'.repeat(1000)}a`, false)).toBe(false);
  });

  test('double stars next to other characters are refused, with a hint', () => {
    expect(() => compileGlobs(['uploads/**.jpg'])).toThrow(
      expect.objectContaining({ code: 'USAGE', hint: expect.stringContaining('uploads/**/*.jpg') }),
    );
  });

  test('names that are not UTF-8 are matched byte by byte', () => {
    expect(compileGlobs(['a?'])('a\xff', false)).toBe(true);
    expect(compileGlobs(['*'])('\xff\xfe', false)).toBe(true);
    // A part that is UTF-8 is text, even if other parts are not.
    expect(compileGlobs(['?/?x'])(`\xff/${pathFromText('éx')}`, false)).toBe(true);
    expect(compileGlobs(['é.txt'])(`\xff/${pathFromText('é.txt')}`, false)).toBe(true);
  });
});
