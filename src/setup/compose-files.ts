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
  /** the directory that its relative paths start from */
  base: string;
  /** another file includes it */
  included: boolean;
  /** its services, with aliases and merges resolved */
  services: Readonly<Record<string, unknown>>;
  /** the rest of the file, likewise */
  top: Readonly<Record<string, unknown>>;
}

/** A project's Compose files. */
export interface ComposeProject {
  /** the project directory, as Compose chooses it */
  directory: string;
  /** the directory that names of files start from */
  start: string;
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
 * Reads the Compose files of a directory, and the files that they include. As for Compose, the project directory is
 * that of the first file: the paths in all files of the project start there, and `.env` is there.
 *
 * @param start the directory in which a person would run Compose
 * @param given files instead of those that Compose finds by itself, relative to the directory
 * @param env may set `COMPOSE_FILE`, as for Compose itself
 * @throws COMPOSE_UNREADABLE if there is no file, or one cannot be read or parsed
 */
export async function readComposeProject(
  start: string,
  given: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<ComposeProject> {
  // Compose looks for COMPOSE_FILE in the `.env` of the directory in which it runs, unless files are given.
  const own = given.length > 0 ? {} : await readVariables(path.join(start, '.env'));
  const defined = { ...own, ...definedIn(env) };
  const names = given.length > 0 ? given : (namesIn(defined) ?? (await usualNames(start)));
  const directory = path.dirname(path.resolve(start, names[0] ?? ''));
  const variables = { ...(await readVariables(path.join(directory, '.env'))), ...defined };
  const project: ComposeProject = { directory, start, files: [], extended: new Map(), variables, notes: [] };
  for (const name of names) await addFile(project, path.resolve(start, name), { base: directory });
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
      hint: `Lifeboat looks for ${BASES.join(', ')}. In the project directory, run \`docker run --rm -v ./:/project lifeboat init\`: a container sees only what is mounted. --file names another file, --directory another directory.`,
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

async function addFile(
  project: ComposeProject,
  wanted: string,
  { base, included = false }: { base: string; included?: boolean },
): Promise<void> {
  const { files, notes } = project;
  const file = { ...(await readFileAt(project, wanted)), base, included };
  if (files.some(({ path: known }) => known === file.path)) return;
  files.push(file);
  for (const other of basesOf(file)) await addExtended(project, path.resolve(base, other));
  for (const { names, directory } of includedBy(file.document.contents)) {
    // Without a directory of its own, an included project has that of its first file.
    const below = path.resolve(base, directory ?? path.dirname(names[0] ?? ''));
    for (const name of names) {
      if (isElsewhere(name)) notes.push(`${file.name} includes ${name}, which is not read`);
      else await addFile(project, path.resolve(base, name), { base: below, included: true });
    }
  }
}

/** Reads a file that `extends` names, and the files that its own services extend. */
async function addExtended(project: ComposeProject, wanted: string): Promise<void> {
  const queue = [wanted];
  for (const name of queue) {
    const file = await readFileAt(project, name);
    if (project.extended.has(name)) continue;
    project.extended.set(name, file);
    queue.push(...basesOf(file).map((base) => path.resolve(file.base, base)));
  }
}

async function readFileAt({ start }: ComposeProject, wanted: string): Promise<ComposeFile> {
  const name = path.relative(start, wanted) || wanted;
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
      base: path.dirname(wanted),
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

interface Include {
  names: string[];
  /** `project_directory` */
  directory?: string;
}

/** Reads `include:`, in its short form and its long form. */
function includedBy(top: unknown): Include[] {
  if (!isMap(top)) return [];
  const include = top.get('include', true);
  if (!isSeq(include)) return [];
  return include.items.map((item) => {
    const value = isMap(item) ? item.get('path', true) : item;
    const all = isSeq(value) ? value.items : [value];
    const names = all.flatMap((one) => (isScalar(one) && typeof one.value === 'string' ? [one.value] : []));
    const directory = isMap(item) ? item.get('project_directory') : undefined;
    return { names, ...(typeof directory === 'string' ? { directory } : {}) };
  });
}
