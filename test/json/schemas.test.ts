import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { createProgram } from '../../src/cli.ts';
import { processIo } from '../../src/commands/run.ts';
import { checkOutput, documentOf, fileOf, SCHEMAS } from './documents.ts';
import { type Schema, schemasOf } from './from-types.ts';

const UPDATE = process.env.UPDATE_DOCS === '1';
const PAGE = path.join(SCHEMAS, '../json.md');

/** Documents of a format that others define. */
const FOREIGN = ['bucket policy'];

/** Adds what `print` adds to each document, so that a reader sees it at the top. */
function withFormat({ $defs, ...schema }: Schema & { $defs?: Record<string, Schema> }): Schema {
  const name = /^#\/\$defs\/(\w+)$/.exec(String(schema.$ref))?.[1];
  if (name !== undefined) {
    const { [name]: own = {}, ...others } = $defs ?? {};
    const isUsed = JSON.stringify([own, others]).includes(`"#/$defs/${name}"`);
    return withFormat({ ...own, $defs: isUsed ? { ...others, [name]: own } : others });
  }
  const defs = Object.keys($defs ?? {}).length === 0 ? {} : { $defs };
  if (Array.isArray(schema.anyOf)) {
    return { ...schema, anyOf: schema.anyOf.map((one: Schema) => withFormat(inlined(one, $defs))), ...defs };
  }
  const { properties, required = [], ...rest } = schema as { properties: object; required?: string[] };
  const format = { const: 1, description: 'Later versions add members. They raise it if they remove or change one.' };
  return {
    ...rest,
    properties: { format, ...properties },
    required: ['format', ...required.filter((one) => one !== 'format')],
    ...defs,
  };
}

function inlined(schema: Schema, definitions: Record<string, Schema> = {}): Schema {
  const name = /^#\/\$defs\/(\w+)$/.exec(String(schema.$ref))?.[1];
  return name === undefined ? schema : (definitions[name] ?? schema);
}

function readOr(file: string, otherwise: string): string {
  const at = path.join(SCHEMAS, file);
  return existsSync(at) ? readFileSync(at, 'utf8') : otherwise;
}

/** Returns whether two schemas say the same. The compiler lists inherited members and the parts of unions in any order. */
function isSame(a: string, b: string): boolean {
  const sorted = (value: unknown): unknown => {
    if (typeof value !== 'object' || value === null) return value;
    if (!Array.isArray(value)) {
      const entries = Object.entries(value).map(([key, one]) => [key, sorted(one)]);
      return Object.fromEntries(entries.sort(([x], [y]) => (String(x) < String(y) ? -1 : 1)));
    }
    return value.map((one) => JSON.stringify(sorted(one))).sort();
  };
  return JSON.stringify(sorted(JSON.parse(a))) === JSON.stringify(sorted(JSON.parse(b)));
}

function published(): Map<string, string> {
  const all = [...schemasOf('src/commands/json/documents.ts', 'Documents')].map(([name, schema]): [string, string] => {
    const own = FOREIGN.includes(name) ? schema : withFormat(schema);
    const head = { $schema: 'https://json-schema.org/draft/2020-12/schema', title: `lifeboat ${name} --json` };
    return [name, `${JSON.stringify({ ...head, ...own }, null, 1)}\n`];
  });
  return new Map(all);
}

describe('docs/json', () => {
  const schemas = published();

  test('has the schema of each document, made from its type', () => {
    if (UPDATE) {
      mkdirSync(SCHEMAS, { recursive: true });
      for (const [name, text] of schemas) {
        if (!isSame(readOr(fileOf(name), 'null'), text)) writeFileSync(path.join(SCHEMAS, fileOf(name)), text);
      }
    }
    expect(readdirSync(SCHEMAS).sort()).toEqual([...schemas.keys()].map(fileOf).sort());
    const stale = [...schemas].filter(([name, text]) => !isSame(readOr(fileOf(name), 'null'), text));
    expect(stale.map(([name]) => `UPDATE_DOCS=1 writes ${fileOf(name)}`)).toEqual([]);
  });

  test('is listed in docs/json.md', () => {
    const rows = [...schemas.keys()].map((name) => `| \`${name}\` | [${fileOf(name)}](json/${fileOf(name)}) |`);
    const table = ['| document | schema |', '|---|---|', ...rows].join('\n');
    const page = readFileSync(PAGE, 'utf8');
    const wanted = page.replace(/^\| document \|[\s\S]*?(?=\n\n|\n$)/m, () => table);
    if (UPDATE) writeFileSync(PAGE, wanted);
    expect(UPDATE ? wanted : page).toBe(wanted);
    expect(wanted).toContain(table);
  });

  test('has a document for each command that prints JSON', () => {
    const program = createProgram(processIo(), () => undefined);
    const lines = (command: Command, words: string[]): string[][] =>
      command.commands.length === 0 ? [words] : command.commands.flatMap((one) => lines(one, [...words, one.name()]));
    // The log of the daemon is its output. The others print no result.
    const without = ['daemon', 'help', 'tree-job', 'source-names', 'version'];
    const commands = lines(program, []).filter((words) => !without.includes(words.at(-1) ?? ''));
    expect(commands.length).toBeGreaterThan(20);
    expect(
      commands.map((words) => documentOf([...words, '--json'])).filter((name) => !schemas.has(name ?? '')),
    ).toEqual([]);
  });

  test('a document that differs from its schema is found', () => {
    const pinned = { format: 1, snapshot: 'a', pinned: 'b' };
    const check = (value: object) => () =>
      checkOutput(['pin', 'latest', '--json'], JSON.stringify(value), { strict: true });
    expect(check(pinned)).not.toThrow();
    expect(check({ ...pinned, pinned: 1 })).toThrow(/pin\.schema\.json/);
    expect(check({ ...pinned, more: true })).toThrow(/more/);
    expect(check({ snapshot: 'a', pinned: 'b' })).toThrow(/format/);
    expect(check({ format: 1, error: { code: 'X', message: 'm' } })).not.toThrow();
    expect(check({ format: 1, error: { code: 'X' } })).toThrow(/error\.schema\.json/);
    expect(documentOf(['show', '--from', '/x', 'latest', '--json'])).toBe('show SNAPSHOT');
    expect(documentOf(['show', 'latest', 'db.postgres', '--json'])).toBe('show SNAPSHOT SOURCE');
    expect(documentOf(['rollback', '--forget', '--json'])).toBe('rollback --forget');
    expect(documentOf(['status'])).toBeUndefined();
  });
});
