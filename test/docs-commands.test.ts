import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EXIT } from '../src/base/exit.ts';
import { createProgram } from '../src/cli.ts';
import type { Io } from '../src/commands/call.ts';

/** What people read about the commands says what they do. */

const ROOT = path.join(import.meta.dirname, '..');
const read = (name: string) => readFileSync(path.join(ROOT, name), 'utf8');
/** Commands that only programs run. */
const HIDDEN = new Set(['tree-job', 'source-names', 'version']);
const all = (text: string, pattern: RegExp) => [...new Set([...text.matchAll(pattern)].map((match) => match[1] ?? ''))];

describe('lifeboat --help', () => {
  test('explains every operand', () => {
    const program = createProgram({} as Io, () => undefined);
    const operands = program.commands.flatMap((command) =>
      command.registeredArguments.map((operand) => ({ of: `${command.name()} ${operand.name()}`, operand })),
    );
    expect(operands.length).toBeGreaterThan(5);
    expect(operands.filter(({ operand }) => operand.description === '').map(({ of }) => of)).toEqual([]);
  });

  test('has one example for each command, and --json', () => {
    const heard: string[] = [];
    const io = { out: (text: string) => void heard.push(text), err: () => undefined } as unknown as Io;
    const program = createProgram(io, () => undefined);
    const commands = program.commands.flatMap((one) => (one.commands.length > 0 ? one.commands : [one]));
    for (const one of commands.filter((each) => !HIDDEN.has(each.name()))) {
      heard.length = 0;
      one.configureOutput({ writeOut: io.out });
      one.outputHelp();
      expect(heard.join(''), one.name()).toContain('--json');
      expect(heard.join('').match(/\nExamples?:\n {2}docker (?:compose|run) .*lifeboat/g), one.name()).toHaveLength(1);
    }
  });
});

describe('README.md', () => {
  const readme = read('README.md');

  test('has every command', () => {
    const nobody = {} as Io;
    const commands = createProgram(nobody, () => undefined)
      .commands.map((command) => command.name())
      .filter((name) => !HIDDEN.has(name));
    const rows = all(readme, /^\| `([a-z]+)[ \]`]/gm);
    expect(rows.toSorted()).toEqual(commands.toSorted());
  });

  test.each(['README.md', 'docs/copies.md'])('%s names the commands that take --from', (page) => {
    const commands = createProgram({} as Io, () => undefined)
      .commands.filter(({ options }) => options.some(({ long }) => long === '--from'))
      .map((command) => command.name())
      // There, --from means another direction.
      .filter((name) => name !== 'copy');
    const [sentence = ''] = /(?:`[a-z]+`[, and]*\s)+take\s`--from/.exec(read(page)) ?? [];
    expect(all(sentence, /`([a-z]+)`/g).toSorted()).toEqual(commands.toSorted());
  });

  test('has every exit status', () => {
    const rows = [...readme.matchAll(/^\| (\d+) \|/gm)].map(([, status]) => Number(status));
    expect(rows).toEqual(Object.values(EXIT).toSorted((a, b) => a - b));
  });

  test('has the npm scripts it speaks of', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    const named = all(readme, /npm (?:run (?=[a-z])|(?=test))([a-z:]+)/g);
    expect(named).toContain('demo');
    expect(named.filter((name) => !(name in scripts))).toEqual([]);
  });
});
