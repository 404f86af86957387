import { readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { type Document, isMap, isScalar, isSeq } from 'yaml';
import { hasErrno, LifeboatError } from '../base/errors.ts';
import { readYaml } from './insert-text.ts';

/** Finding and parsing the Compose files of a project. */

/** A Compose file as it is on the disk. */
export interface ComposeFile {
  /** absolute, without symlinks */
  path: string;
  /** relative to the project directory, for people */
  name: string;
  text: string;
  document: Document.Parsed;
  /** another file includes it: its paths are relative to its own directory */
  included: boolean;
  /** its services, with aliases and merges resolved */
  services: Readonly<Record<string, unknown>>;
  /** the rest of the file, likewise */
  top: Readonly<Record<string, unknown>>;
}

/** A project's Compose files. */
export interface ComposeProject {
  directory: string;
  /** in the order in which Compose merges them; never empty */
  files: ComposeFile[];
  /** files that only `extends` names, by path */
  extended: Map<string, ComposeFile>;
  /** variables for `${…}`: those of `.env`, which the environment overrides */
  variables: Readonly<Record<string, string>>;
  /** files that are not read, with the reason */
  notes: string[];
}

/** The names that Compose looks for, in its order (Compose specification, "The Compose file"). */
const BASES = ['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml'];
const OVERRIDES = BASES.map((name) => name.replace(/\.(ya?ml)$/, '.override.$1'));

/**
 * Reads the Compose files of a directory, and the files that they include.
 *
 * @param given files instead of those that Compose finds by itself, relative to the directory
 * @param env may set `COMPOSE_FILE`, as for Compose itself
 * @throws COMPOSE_UNREADABLE if there is no file, or one cannot be read or parsed
 */
export async function readComposeProject(
  directory: string,
  given: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<ComposeProject> {
  const own = await readVariables(path.join(directory, '.env'));
  const variables = { ...own, ...definedIn(env) };
  const names = given.length > 0 ? given : (namesIn(variables) ?? (await usualNames(directory)));
  const project: ComposeProject = { directory, files: [], extended: new Map(), variables, notes: [] };
  for (const name of names) await addFile(project, path.resolve(directory, name));
  return project;
}

async function readVariables(file: string): Promise<Record<string, string>> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return '';
    throw new LifeboatError('COMPOSE_UNREADABLE', 'the file .env cannot be read', { cause: error });
  });
  return definedIn(parseEnv(text));
}

function definedIn(env: NodeJS.Dict<string>): Record<string, string> {
  return Object.fromEntries(Object.entries(env).filter((pair): pair is [string, string] => pair[1] !== undefined));
}

/** Returns the files of `COMPOSE_FILE`, or undefined if it is not set. */
function namesIn(variables: Readonly<Record<string, string>>): string[] | undefined {
  const value = variables.COMPOSE_FILE;
  if (!value) return undefined;
  return value.split(variables.COMPOSE_PATH_SEPARATOR || path.delimiter).filter((name) => name !== '');
}

async function usualNames(directory: string): Promise<string[]> {
  const first = async (names: readonly string[]) => {
    for (const name of names) if (await isFile(path.join(directory, name))) return [name];
    return [];
  };
  const base = await first(BASES);
  if (base.length === 0) {
    throw new LifeboatError('COMPOSE_UNREADABLE', `there is no Compose file in ${directory}`, {
      hint: `Lifeboat looks for ${BASES.join(', ')}. Name another file with --file, or another directory with --directory.`,
    });
  }
  return [...base, ...(await first(OVERRIDES))];
}

async function isFile(name: string): Promise<boolean> {
  return stat(name).then(
    (found) => found.isFile(),
    () => false,
  );
}

async function addFile(project: ComposeProject, wanted: string, included = false): Promise<void> {
  const { directory, files, notes } = project;
  const file = { ...(await readFileAt(directory, wanted)), included };
  if (files.some(({ path: known }) => known === file.path)) return;
  files.push(file);
  for (const base of basesOf(file)) await addExtended(project, path.resolve(path.dirname(wanted), base));
  for (const other of includedBy(file.document.contents)) {
    if (isElsewhere(other)) notes.push(`${file.name} includes ${other}, which is not read`);
    else await addFile(project, path.resolve(path.dirname(wanted), other), true);
  }
}

/** Reads a file that `extends` names, and the files that its own services extend. */
async function addExtended({ directory, extended }: ComposeProject, wanted: string): Promise<void> {
  const queue = [wanted];
  for (const name of queue) {
    const file = await readFileAt(directory, name);
    if (extended.has(name)) continue;
    extended.set(name, file);
    queue.push(...basesOf(file).map((base) => path.resolve(path.dirname(name), base)));
  }
}

async function readFileAt(directory: string, wanted: string): Promise<ComposeFile> {
  const name = path.relative(directory, wanted) || wanted;
  try {
    const real = await realpath(wanted);
    const text = await readFile(wanted, 'utf8');
    const { document, data: top } = readYaml(text);
    const [error] = document.errors;
    if (error) throw error;
    if (!isRecord(top)) throw new Error('it is not a mapping with `services:`');
    return {
      path: real,
      name,
      text,
      document,
      included: false,
      top,
      services: isRecord(top.services) ? top.services : {},
    };
  } catch (cause) {
    throw new LifeboatError('COMPOSE_UNREADABLE', `the Compose file ${name} cannot be read`, {
      cause,
      hint: '`docker compose config --quiet` shows what Compose says about it.',
    });
  }
}

/** Returns the files that the services of a file extend. */
function basesOf({ services }: ComposeFile): string[] {
  return Object.values(services).flatMap((service) => {
    const base = isRecord(service) && isRecord(service.extends) ? service.extends.file : undefined;
    return typeof base === 'string' && !isElsewhere(base) ? [base] : [];
  });
}

/** Returns whether a path is a URL, or depends on a variable. */
function isElsewhere(name: string): boolean {
  return /^\w+:\/\/|\$|^git@|^oci:/.test(name);
}

/** Returns whether a value is a mapping. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Returns the paths under `include:`, in its short form and its long form. */
function includedBy(top: unknown): string[] {
  if (!isMap(top)) return [];
  const include = top.get('include', true);
  if (!isSeq(include)) return [];
  return include.items.flatMap((item) => {
    const value = isMap(item) ? item.get('path', true) : item;
    const all = isSeq(value) ? value.items : [value];
    return all.flatMap((one) => (isScalar(one) && typeof one.value === 'string' ? [one.value] : []));
  });
}
