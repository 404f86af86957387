import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { chown, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { createTwoFilesPatch } from 'diff';
import { LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';
import { agentService, SPOOL_VOLUME } from './agent-service.ts';
import { type ComposeFile, type ComposeProject, readComposeProject } from './compose-files.ts';
import { addLabels, addService } from './edit.ts';
import { type LeftOut, type Proposal, planProposals, proposeLabels } from './propose.ts';
import { servicesOf } from './services.ts';

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
  const { proposals, leftOut, labelled, agent } = proposeLabels(services, directory);
  const texts = new Map(project.files.map((file): [ComposeFile, string] => [file, file.text]));
  const byHand = [...applyLabels(texts, proposals), ...(agent === undefined ? applyAgent(texts, project, image) : [])];
  const changed = [...texts].filter(([file, text]) => text !== file.text);
  if (write) await writeFiles(changed);
  const { sources } = planProposals(services, proposals);
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
      ...(agent === undefined ? [] : [`${agent} is the service of Lifeboat already, and stays as it is`]),
    ],
    written: write && changed.length > 0,
  };
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

/** Adds the service of Lifeboat to the first file that can take it. Returns it if none can. */
function applyAgent(texts: Map<ComposeFile, string>, { files }: ComposeProject, image: string): InitResult['byHand'] {
  const lines = agentService(image);
  for (const file of files.filter(({ included }) => !included)) {
    const changed = addService(texts.get(file) ?? file.text, 'lifeboat', { lines, volume: SPOOL_VOLUME });
    if (changed === undefined) continue;
    texts.set(file, changed);
    return [];
  }
  return [{ service: 'lifeboat', lines }];
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
