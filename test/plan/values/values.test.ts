import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseCommand } from '../../../src/plan/command.ts';
import { ownLabels } from '../../../src/plan/labels.ts';
import { slugOf, uniqueSlugs } from '../../../src/plan/names.ts';
import { quote } from '../../../src/plan/values/fields.ts';
import { checkGlob } from '../../../src/plan/values/glob.ts';
import { sourcesHint, suggest } from '../../../src/plan/values/suggest.ts';
import { duration, globs, integer, list, patterns, url } from '../../../src/plan/values/values.ts';
import { parseZone } from '../../../src/plan/values/zone.ts';

const noNul = fc.string({ unit: 'grapheme' }).filter((text) => !text.includes('\0'));

describe('comma lists', () => {
  test('any text can be an item', () => {
    const item = noNul.filter((text) => text !== '');
    fc.assert(
      fc.property(fc.uniqueArray(item, { minLength: 1 }), (items) => {
        const text = items.map((each) => `"${each.replaceAll('"', '""')}"`).join(' , ');
        expect(list()(text)).toEqual({ value: items });
      }),
    );
  });

  test.each(['', ' ', ',', 'a,', ',a', 'a,,b', '""', 'a"b', '"a', '"a"b', 'a\0'])('%j is refused', (text) => {
    expect(list()(text)).toHaveProperty('problem');
  });
});

describe('durations', () => {
  const parse = duration({ min: '1s', max: '30d' });
  test.each([
    ['90s', 90_000],
    ['15m', 900_000],
    [' 2H ', 7_200_000],
    ['7d', 604_800_000],
    ['1h 30m', 5_400_000],
    ['1h30m', 5_400_000],
  ])('%j', (text, value) => expect(parse(text)).toEqual({ value }));
  test.each(['', '15', '0s', '31d', '1.5h', '-5m', '5 m', 'm', '1e3s', '99999999999s'])('%j is refused', (text) => {
    expect(parse(text)).toHaveProperty('problem');
  });
});

describe('numbers and addresses', () => {
  test.each(['0', '65536', '1.5', '', '0x10', '1e3', '-1'])('port %j is refused', (text) => {
    expect(integer(1, 65_535)(text)).toHaveProperty('problem');
  });
  test('port 9000', () => expect(integer(1, 65_535)('9000')).toEqual({ value: 9000 }));
  test.each(['hc-ping.com/x', 'ftp://a/b', 'https://', 'https://hc-ping.com', 'https://a/b c'])('%j', (text) => {
    expect(url({ path: true })(text)).toHaveProperty('problem');
  });
  test('a base loses its last slash', () => {
    expect(url({ path: false })('https://hc.example.org/ping/')).toEqual({ value: 'https://hc.example.org/ping' });
  });
});

describe('time zones', () => {
  test.each(['UTC', 'Europe/Berlin', 'America/Argentina/Buenos_Aires', 'CET', 'US/Eastern'])('%s', (text) => {
    expect(parseZone(text)).toEqual({ value: text });
  });
  test.each([
    ['Europe/Berln', 'did you mean Europe/Berlin?'],
    ['Berlin', 'did you mean Europe/Berlin?'],
    ['new_york', 'did you mean America/New_York?'],
    ['CEST', 'write a name such as Europe/Berlin, or UTC'],
    ['+02:00', 'write a name such as Europe/Berlin, or UTC'],
  ])('%j is refused: %s', (text, hint) => expect(parseZone(text)).toEqual({ problem: 'is not a time zone', hint }));
});

describe('globs', () => {
  const accepted = [
    '**',
    '**/*.tmp',
    '/cache',
    './cache',
    'cache/',
    'a/[a-z]*',
    '[]a]',
    '[!]]',
    '[{]',
    'a\\[b',
    '\\!a',
    '\\{',
    'a]',
    '.git/**',
    'a..b',
    '*.{jpg,png}',
    '{uuid}',
    '*a*b*c*',
    '**/a/**/b/**',
    '*.*/*.*/*.*/x',
    'uploads/**/',
    '{**/a,b}',
    '{**,a}',
    '\\**',
    '*\\*',
    '[**]',
    `{${Array.from({ length: 100 }, (_, i) => i).join()}}`,
  ];
  test.each(accepted)('%s', (glob) => expect(checkGlob(glob)).toBeUndefined());

  const refused = ['../a', 'a/../b', '/', './', '!a', '[a', '[]', '[!]', '{a', '*.{jpg', 'png}'];
  refused.push('*a*a*a*a*a*a*a*b', '**/*a*b*/*c*d*', '**/a/**/b/**/c', '{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}');
  refused.push('*-*-*-*-*-*-*-*b', '*.*.*.*.*.*.*.b', '*é*é*é*é*é*b');
  test.each(refused)('%s is refused', (glob) => expect(checkGlob(glob)).toHaveProperty('problem'));

  test.each([
    'uploads/**.jpg',
    'a**',
    '**a',
    '**.',
    'a/-**/b',
    'a**b/c',
    '***',
    '**.jpg',
    '{a**,b}',
    'a{b,**}',
    '[ab]**',
    '\\***',
  ])('%s is refused: it says what to write for any depth', (glob) => {
    expect(globs(glob)).toEqual({
      problem: 'has a glob with ** as a part of a name',
      hint: 'write **/ for any directories, as in uploads/**/*.jpg for all names that end in .jpg',
    });
  });

  test('a comma between braces does not end an item of a list', () => {
    expect(globs('*.{jpg,png},{a,{b,c}}/** , "x,y", \\{, {u}')).toEqual({
      value: ['*.{jpg,png}', '{a,{b,c}}/**', 'x,y', '\\{', '{u}'],
    });
    expect(globs('{a,b')).toEqual({ problem: 'has a glob with an open brace' });
    expect(globs('{a,b}"')).toHaveProperty('problem');
    expect(globs('{'.repeat(10_000))).toMatchObject({ problem: 'has a glob with an open brace' });
  });
});

describe('commands', () => {
  const words = fc.array(noNul, { minLength: 1 }).filter(([first]) => first !== '' && !/^[A-Za-z_]\w*=/.test(first!));

  test('single quotes carry any word', () => {
    fc.assert(
      fc.property(words, (argv) => {
        const text = argv.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join('  ');
        expect(parseCommand(text)).toEqual({ value: argv });
      }),
    );
  });

  test('a JSON array carries any word', () => {
    fc.assert(
      fc.property(words, (argv) => {
        expect(parseCommand(JSON.stringify(argv))).toEqual({ value: argv });
      }),
    );
  });

  test.each([
    ['app freeze', ['app', 'freeze']],
    ['  app\tfreeze  ', ['app', 'freeze']],
    ['app ""', ['app', '']],
    [`a"b c"'d e'f`, ['ab cd ef']],
    [String.raw`a\ b "\"c\" \d \$x" \|`, ['a b', String.raw`"c" \d $x`, '|']],
    ['[ -f /x ]', ['[', '-f', '/x', ']']],
    ['find . -name "*.txt"', ['find', '.', '-name', '*.txt']],
    ["awk '{print $1}'", ['awk', '{print $1}']],
    ['echo 5$', ['echo', '5$']],
  ])('%s', (text, value) => expect(parseCommand(text)).toEqual({ value }));

  test.each([
    'a | b',
    'a|b',
    'a && b',
    'a;b',
    'a > b',
    'a < b',
    'a &',
    'echo $(id)',
    'echo `id`',
    'echo $HOME',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
    'echo ${HOME}',
    'echo "$HOME"',
    'echo "a `id`"',
    '(a)',
    'a\nb',
    "a 'b",
    'a "b',
    'a \\',
    'A=b c',
    '',
    '  ',
    "''",
    '[]',
    '[""]',
    '["a", 1]',
    '["a"',
    '["a\\u0000"]',
  ])('%j is refused', (text) => expect(parseCommand(text)).toHaveProperty('problem'));
});

describe('slugs', () => {
  const anyText = fc.array(fc.nat(0xffff), { maxLength: 100 }).map((units) => String.fromCharCode(...units));
  const SAFE = /^[a-z0-9][a-z0-9_-]{0,47}$/;

  test('are safe, whatever the text', () => {
    fc.assert(
      fc.property(anyText, (text) => {
        expect(slugOf(text).slug).toMatch(SAFE);
      }),
    );
  });

  test('of different texts are different', () => {
    const text = fc.oneof(fc.string({ unit: fc.constantFrom('a', 'A', '/', '-', '.', 'é'), maxLength: 6 }), noNul);
    fc.assert(
      fc.property(fc.uniqueArray(text, { maxLength: 20 }), (texts) => {
        const slugs = [...uniqueSlugs(texts).values()];
        for (const slug of slugs) expect(slug).toMatch(SAFE);
        expect(new Set(slugs).size).toBe(texts.length);
      }),
    );
  });
});

describe('suggestions', () => {
  const words = ['lifeboat.volumes', 'lifeboat.volumes.exclude', 'lifeboat.postgres.databases', 'lifeboat.keep'];
  test.each([
    ['lifeboat.volume', 'lifeboat.volumes'],
    ['lifeboat.Volumes_Exclude', 'lifeboat.volumes.exclude'],
    ['lifeboat.vloumes', 'lifeboat.volumes'],
    ['lifeboat.databases', 'lifeboat.postgres.databases'],
    ['keep', 'lifeboat.keep'],
    ['lifeboat.retention', 'lifeboat.keep'],
    ['lifeboat.enable', 'lifeboat.volumes'],
    ['LIFEBOAT_RETENTION_DAYS', 'lifeboat.keep'],
    // A word for something that is not among the names means nothing.
    ['lifeboat.cron', undefined],
    ['lifeboat.constructor', undefined],
    ['lifebaot.volumes', 'lifeboat.volumes'],
    ['life-boat.keep', 'lifeboat.keep'],
    ['liveboat.volumes.exclude', 'lifeboat.volumes.exclude'],
    ['traefik.volumes', undefined],
    ['lifeboat.elephant', undefined],
    ['lifeboat.', undefined],
    ['x'.repeat(10_000), undefined],
  ])('%s', (word, expected) => expect(suggest(word, words)).toBe(expected));
});

test('a quoted value is short, on one line, and shows hidden characters', () => {
  expect(quote('a"b\n\u202e\u001b[2J')).toBe(String.raw`"a\"b\n\u{202e}\u001b[2J"`);
  expect(quote('x'.repeat(1000)).length).toBeLessThan(64);
});

test.each([
  ['audit.*, cach?', ['audit.*', 'cach?']],
  ['"Mixed",mixed', ['"Mixed"', 'mixed']],
  ['audit."Log, 2" , "a""b".c,audit."Log, 2"', ['audit."Log, 2"', '"a""b".c']],
  ['a,,b', 'has an empty item'],
  ['', 'has an empty item'],
  ['a"b', 'has a stray quote'],
])('patterns %j', (text, expected) => {
  const result = patterns(text);
  expect('value' in result ? result.value : result.problem).toEqual(expected);
});

describe('labels meant for Lifeboat', () => {
  const own = (...keys: string[]) => [...ownLabels(Object.fromEntries(keys.map((key) => [key, 'x'])), {}).keys()];
  test('include those whose prefix is misspelt', () => {
    const typos = ['lifebaot.volumes', 'life-boat.keep', 'lifeboat_volumes', 'Lifeboat.Postgres', 'lifebot.exec.pre'];
    expect(own(...typos)).toEqual([...typos].sort());
  });
  test('do not include those of other programs', () => {
    expect(own('lifeboats.example.org/owner', 'traefik.enable', 'liveboard.title', 'com.example.keep', 'keep')).toEqual(
      [],
    );
  });
});

test('a word that begins the name of a source means that source', () => {
  const names = ['config', 'db.postgres.base', 'db.postgres', 'web.media'];
  const all = 'The sources are: config, db.postgres, db.postgres.base, web.media.';
  expect(sourcesHint(['db'], names)).toBe(`Did you mean db.postgres? ${all}`);
  expect(sourcesHint(['media', 'confg'], names)).toBe(`Did you mean web.media, config? ${all}`);
  expect(sourcesHint(['nothing-like-it'], names)).toBe(all);
});
