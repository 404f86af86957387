import { randomBytes } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { chown, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { createTwoFilesPatch } from 'diff';
import { LifeboatError } from '../base/errors.ts';
import { contains } from '../plan/host-paths.ts';
import type { Mount, Problem } from '../plan/model.ts';
import { shellWord } from '../report/restore-command.ts';
import { agentService, BACKUP_DIRECTORIES, SPOOL_VOLUME } from './agent-service.ts';
import { type ComposeFile, type ComposeProject, readComposeProject } from './compose-files.ts';
import { addLabels, addService } from './edit.ts';
import { type LeftOut, type Proposal, planProposals, proposeLabels } from './propose.ts';
import { type ComposeService, servicesOf } from './services.ts';

/** The request of a call of `lifeboat init`. */
interface InitRequest {
  /** the project directory */
  directory: string;
  /** Compose files instead of those that Compose finds by itself */
  files: readonly string[];
  /** the image of the service to add */
  image: string;
  /** write the changes */
  write: boolean;
  env: NodeJS.ProcessEnv;
}

/** The result of `lifeboat init`. */
export interface InitResult {
  directory: string;
  /** the files that change, each with its changes as a patch */
  files: { name: string; patch: string }[];
  labels: { service: string; labels: Readonly<Record<string, string>> }[];
  /** sources that the labels lead to */
  sources: string[];
  leftOut: LeftOut[];
  /** labels, or the service of Lifeboat, to add by hand, as YAML */
  byHand: { service: string; lines: string[] }[];
  notes: string[];
  /** the commands to continue with, once the changes are written */
  next: string[];
  written: boolean;
}

/**
 * Proposes labels for the services of a Compose project, and the service of Lifeboat. With `write`, changes the files.
 *
 * @throws COMPOSE_UNREADABLE, COMPOSE_CHANGED, COMPOSE_UNWRITABLE
 */
export async function init({ directory, files: given, image, write, env }: InitRequest): Promise<InitResult> {
  const project = await readComposeProject(directory, given, env);
  const services = servicesOf(project, kindOf);
  const found = proposeLabels(services, project.directory, (place) => entriesOf(place)?.length === 0);
  const { proposals, leftOut, labelled, agent } = found;
  const texts = new Map(project.files.map((file): [ComposeFile, string] => [file, file.text]));
  const backups = backupsDirectory(project.directory, services);
  const byHand = applyLabels(texts, proposals);
  if (agent === undefined) byHand.push(...applyAgent(texts, project, agentService(image, backups)));
  const changed = [...texts].filter(([file, text]) => text !== file.text);
  if (write) await writeFiles(changed);
  const mounts = agent?.container.mounts ?? mountsOfAgent(project.directory, backups);
  const { sources, problems } = planProposals(services, proposals, mounts);
  return {
    directory,
    files: changed.map(([file, text]) => ({ name: file.name, patch: patchOf(file, text) })),
    labels: proposals.map(({ service, labels }) => ({ service: service.name, labels })),
    sources: sources.map(({ name }) => name),
    leftOut,
    byHand,
    notes: [
      ...project.notes,
      ...labelled.map((name) => `${name} has labels of Lifeboat already, and stays as it is`),
      ...(agent === undefined ? [] : [`${agent.name} is the service of Lifeboat already, and stays as it is`]),
      ...found.notes,
      ...problems.filter(({ code }) => code !== 'NOTHING_LABELLED').map(problemNote),
    ],
    next: nextCommands(given, agent?.name ?? NAME),
    written: write && changed.length > 0,
  };
}

/** The name of the service that is added. */
const NAME = 'lifeboat';

function problemNote({ subject, message, code, hint }: Problem): string {
  return `${subject}: ${message} (${code})${hint === undefined ? '' : `: ${hint}`}`;
}

function nextCommands(files: readonly string[], agent: string): string[] {
  const compose = ['docker compose', ...files.map((file) => `-f ${shellWord(file)}`)].join(' ');
  const lifeboat = `${compose} exec ${shellWord(agent)} lifeboat`;
  return [`${compose} up -d`, `${lifeboat} plan`, `${lifeboat} backup`];
}

/** Returns the entries of a directory, or undefined if it cannot be read. */
function entriesOf(place: string): string[] | undefined {
  try {
    return readdirSync(place);
  } catch {
    return undefined;
  }
}

/** Returns the first directory for backups that no service uses, and that is empty or holds a repository already. */
function backupsDirectory(directory: string, services: readonly ComposeService[]): string {
  const binds = services.flatMap(({ container }) => container.mounts.filter(({ type }) => type === 'bind'));
  const isFree = (name: string) => {
    const place = path.join(directory, name);
    if (binds.some(({ source }) => contains(place, source))) return false;
    if (kindOf(place) === undefined) return true;
    const entries = entriesOf(place);
    return entries !== undefined && (entries.length === 0 || entries.includes('lifeboat.json'));
  };
  return BACKUP_DIRECTORIES.find(isFree) ?? (BACKUP_DIRECTORIES.at(-1) as string);
}

/** Returns the mounts of the service that is added, as far as a plan depends on them. */
function mountsOfAgent(directory: string, backups: string): Mount[] {
  return [
    { type: 'bind', source: path.join(directory, backups), destination: '/backups', writable: true },
    { type: 'bind', source: path.join(directory, 'restored'), destination: '/restored', writable: true },
    { type: 'bind', source: directory, destination: '/config', writable: false },
  ];
}

function kindOf(place: string): Mount['kind'] {
  const found = statSync(place, { throwIfNoEntry: false });
  if (!found) return undefined;
  if (found.isDirectory()) return 'directory';
  return found.isFile() ? 'file' : 'other';
}

/** Adds labels to the texts. Returns those that have to be added by hand. */
function applyLabels(texts: Map<ComposeFile, string>, proposals: readonly Proposal[]): InitResult['byHand'] {
  const change = (file: ComposeFile, some: readonly Proposal[]) => {
    const labels = new Map(some.map((one) => [one.service.name, one.labels]));
    const changed = addLabels(texts.get(file) ?? file.text, labels);
    if (changed !== undefined) texts.set(file, changed);
    return changed;
  };
  const byFile = Map.groupBy(proposals, ({ service }) => service.file);
  // If a file does not take all labels at once, it may take those of some services.
  const left = [...byFile].flatMap(([file, some]) => (change(file, some) === undefined ? some : []));
  return left.flatMap((proposal) => {
    const { service, labels } = proposal;
    const changed = change(service.file, [proposal]);
    const lines = Object.entries(labels).map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`);
    return changed === undefined ? [{ service: service.name, lines: ['labels:', ...lines] }] : [];
  });
}

/** Adds the service of Lifeboat to the first file that can take it. Returns what to add by hand if none can. */
function applyAgent(
  texts: Map<ComposeFile, string>,
  { files }: ComposeProject,
  lines: readonly string[],
): InitResult['byHand'] {
  for (const file of files.filter(({ included }) => !included)) {
    const changed = addService(texts.get(file) ?? file.text, NAME, { lines, volume: SPOOL_VOLUME });
    if (changed === undefined) continue;
    texts.set(file, changed);
    return [];
  }
  const whole = ['services:', `  ${NAME}:`, ...lines.map((line) => `    ${line}`), 'volumes:', `  ${SPOOL_VOLUME}:`];
  return [{ service: NAME, lines: whole }];
}

function patchOf({ name, text }: ComposeFile, changed: string): string {
  return createTwoFilesPatch(name, name, text, changed, undefined, undefined, { context: 3 });
}

/** Replaces files one after the other. @throws COMPOSE_CHANGED, COMPOSE_UNWRITABLE, with the files written before */
async function writeFiles(changed: readonly [ComposeFile, string][]): Promise<void> {
  const written: string[] = [];
  for (const [file, text] of changed) {
    await replaceFile(file, text).catch((cause: unknown) => {
      if (written.length === 0 && cause instanceof LifeboatError) throw cause;
      const hint = written.length === 0 ? {} : { hint: `These files are written: ${written.join(', ')}.` };
      const code = cause instanceof LifeboatError ? cause.code : 'COMPOSE_UNWRITABLE';
      throw new LifeboatError(code, `${file.name} cannot be written`, { cause, ...hint });
    });
    written.push(file.name);
  }
}

/**
 * Replaces a file in one step: writes another one, with the same mode and owner, and renames it.
 *
 * @throws COMPOSE_CHANGED if the file is not what it was when it was read
 */
async function replaceFile({ path: file, name, text }: ComposeFile, changed: string): Promise<void> {
  const { mode, uid, gid } = await stat(file);
  // In a container, every run has the same process id, and a killed run may have left its file.
  const other = path.join(path.dirname(file), `.${path.basename(file)}.lifeboat-${randomBytes(4).toString('hex')}`);
  const handle = await open(other, 'wx', mode);
  try {
    await handle.writeFile(changed);
    await handle.chmod(mode & 0o7777);
    await handle.sync();
    await handle.close();
    await chown(other, uid, gid);
    if ((await readFile(file, 'utf8')) !== text) {
      throw new LifeboatError('COMPOSE_CHANGED', `${name} has changed since it was read`, { hint: 'Try again.' });
    }
    await rename(other, file);
  } finally {
    await handle.close();
    await rm(other, { force: true });
  }
}
