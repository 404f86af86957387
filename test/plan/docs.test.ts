import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { LABELS } from '../../src/plan/labels.ts';
import { SETTINGS } from '../../src/plan/setting-table.ts';
import type { Field, Fields } from '../../src/plan/values/fields.ts';

const START = '<!-- table: made from the code by UPDATE_DOCS=1 npm run test:unit -->\n';
const END = '<!-- end of table -->\n';

function row(name: string, field: Field, columns: (field: Field) => string[]): string {
  const cells = [`\`${name.replace('*', '<name>')}\``, field.form, ...columns(field), field.doc];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
}

function table(head: string[], fields: Fields, columns: (field: Field) => string[]): string {
  const rows = Object.entries(fields).map(([name, field]) => row(name, field, columns));
  return `| ${head.join(' | ')} |\n|${' --- |'.repeat(head.length)}\n${rows.join('')}`;
}

const tables = {
  'labels.md': table(['label', 'value', 'what it does'], LABELS, () => []),
  'settings.md': table(['setting', 'value', 'default', 'what it does'], SETTINGS, (field) => [
    field.default === undefined ? '' : `\`${field.default}\``,
  ]),
};

describe('the reference pages show the tables of the code (UPDATE_DOCS=1 rewrites them)', () => {
  test.each(Object.entries(tables))('%s', (name, expected) => {
    const file = new URL(`../../docs/${name}`, import.meta.url);
    const page = readFileSync(file, 'utf8');
    const [before, rest] = page.split(START);
    const [actual, after] = rest!.split(END);
    if (process.env.UPDATE_DOCS) writeFileSync(file, before + START + expected + END + after);
    else expect(actual).toBe(expected);
  });
});
