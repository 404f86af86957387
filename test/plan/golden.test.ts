import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { planText, SEPARATOR } from './golden.ts';

const directory = new URL('../golden/labels/', import.meta.url);
const files = readdirSync(directory).filter((name) => name.endsWith('.txt'));

describe('labels and the plans that follow from them (UPDATE_GOLDEN=1 rewrites the second halves)', () => {
  test('there are many', () => expect(files.length).toBeGreaterThanOrEqual(40));

  test.each(files)('%s', (name) => {
    const file = new URL(name, directory);
    const [input, expected] = readFileSync(file, 'utf8').split(`${SEPARATOR}\n`);
    const actual = `${planText(input!)}\n`;
    if (process.env.UPDATE_GOLDEN) writeFileSync(file, `${input}${SEPARATOR}\n${actual}`);
    else expect(actual).toBe(expected);
  });
});
