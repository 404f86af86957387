import { readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';
import type { Schema } from './from-types.ts';

/** The published schemas of docs/json, and whether the output of a command is as they say. */

export const SCHEMAS = path.join(import.meta.dirname, '../../docs/json');

/** Returns the file of a document: `show SNAPSHOT SOURCE` → `show-snapshot-source.schema.json`. */
export function fileOf(name: string): string {
  return `${name.toLowerCase().replace(/[^a-z]+/g, '-')}.schema.json`;
}

/** Options whose value is a word of its own. */
const WITH_VALUE = ['--from', '--project'];

/** Returns the name of the document that a command line leads to. Undefined without `--json`. */
export function documentOf(args: readonly string[]): string | undefined {
  if (!args.includes('--json')) return undefined;
  const words = args.filter((word, i) => !word.startsWith('-') && !WITH_VALUE.includes(args[i - 1] ?? ''));
  const [command = '', second] = words;
  if (command === 'bucket' || command === 'notify') return `${command} ${second}`;
  if (command === 'show') return words.length > 2 ? 'show SNAPSHOT SOURCE' : 'show SNAPSHOT';
  const special = { plan: '--from-labels', status: '--all-hosts', restore: '--to-volume', rollback: '--forget' }[
    command
  ];
  return special !== undefined && args.includes(special) ? `${command} ${special}` : command;
}

const known = new Map<string, z.ZodType>();

/**
 * Compares the output of a command with its schema.
 *
 * @param args the command line after `lifeboat`
 * @param stdout empty, or anything but JSON, if the command was killed
 * @param options `strict`: members that the schema does not name are differences too
 * @throws if the output is not as the schema says
 */
export function checkOutput(args: readonly string[], stdout: string, options: { strict?: boolean } = {}): void {
  const name = documentOf(args);
  if (name === undefined) return;
  let value: unknown;
  try {
    value = JSON.parse(stdout);
  } catch {
    return;
  }
  const isError = Object.keys(value as object).every((key) => key === 'format' || key === 'error');
  const document = isError ? 'error' : name;
  const key = `${document}${options.strict ? ' strict' : ''}`;
  const published = () => (options.strict ? strict(read(document)) : read(document));
  const schema = known.get(key) ?? z.fromJSONSchema(published() as never);
  known.set(key, schema);
  const { error } = schema.safeParse(value);
  if (!error) return;
  throw new Error(`lifeboat ${args.join(' ')}: not as docs/json/${fileOf(document)} says: ${z.prettifyError(error)}`);
}

function read(name: string): Schema {
  return JSON.parse(readFileSync(path.join(SCHEMAS, fileOf(name)), 'utf8')) as Schema;
}

/** Returns a schema that accepts no members but those that it names. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== 'object' || schema === null) return schema;
  const all = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  return 'properties' in all && !('additionalProperties' in all) ? { ...all, additionalProperties: false } : all;
}
