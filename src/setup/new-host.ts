import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { hasErrno } from '../base/errors.ts';
import { ownLabels } from '../plan/labels.ts';
import type { ContainerFacts } from '../plan/model.ts';
import { boolean } from '../plan/values/values.ts';
import { shellWord } from '../report/restore-command.ts';
import { readComposeProject } from './compose-files.ts';
import { proposeLabels } from './propose.ts';
import { servicesOf } from './services.ts';

/** The service of Lifeboat in the documentation. */
const USUAL_NAME = 'lifeboat';

/** A project whose files are back on a new host. */
interface NewHost {
  /** the Compose project in the repository */
  project: string;
  /** the snapshot to restore */
  snapshot: string;
  /** the place to restore from, as the agent in the project reaches it; absent: its own destination */
  from?: string;
}

/**
 * Returns the commands that bring the data of a project back onto a new host, once its Compose files are there: as a
 * person types them, in the project directory. Without readable Compose files, the services are unknown, and the
 * commands start none before the restore.
 *
 * @param directory the project directory
 */
export async function dataCommands(directory: string, { project, snapshot, from }: NewHost): Promise<string[]> {
  const { agent = USUAL_NAME, databases } = await readServices(directory);
  const place = from === undefined ? '' : ` --from ${shellWord(from)}`;
  const first = [...databases, agent].map(shellWord).join(' ');
  return [
    `export COMPOSE_PROJECT_NAME=${shellWord(project)}`,
    `docker compose up --detach --wait ${first}`,
    'docker compose create',
    `docker compose exec ${shellWord(agent)} lifeboat restore ${shellWord(snapshot)} --all${place}`,
    'docker compose up --detach',
  ];
}

const MOST_SCRIPTS = 1000;

/** Returns the names that the script can have. A backup of the project directory contains the earlier ones. */
function* scriptNames(): Generator<string> {
  yield 'restore-data.sh';
  for (let number = 2; number <= MOST_SCRIPTS; number++) yield `restore-data-${number}.sh`;
}

/**
 * Writes the commands into a script in the project directory, and replaces no file. The commands name no secret.
 *
 * @param directory the project directory
 * @returns the name of the script that has exactly these commands; undefined if none can be written
 */
export async function writeDataScript(directory: string, commands: readonly string[]): Promise<string | undefined> {
  const text = ['#!/bin/sh', 'set -e', 'cd "$(dirname "$0")"', ...commands, ''].join('\n');
  for (const name of scriptNames()) {
    const file = path.join(directory, name);
    try {
      await writeFile(file, text, { flag: 'wx', mode: 0o755 });
      return name;
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) return undefined;
      // The same command has run before.
      if ((await readFile(file, 'utf8').catch(() => undefined)) === text) return name;
    }
  }
  return undefined;
}

async function readServices(directory: string): Promise<{ agent?: string; databases: string[] }> {
  try {
    const services = servicesOf(await readComposeProject(directory, [], {}), () => undefined);
    const { agent } = proposeLabels(services, path.resolve(directory));
    const databases = services.filter(({ container }) => isDatabase(container)).map(({ name }) => name);
    return { databases, ...(agent === undefined ? {} : { agent: agent.name }) };
  } catch {
    // The files are back in any case, and a person can read them.
    return { databases: [] };
  }
}

function isDatabase({ labels }: ContainerFacts): boolean {
  const read = boolean(ownLabels(labels, {}).get('lifeboat.postgres') ?? '');
  return 'value' in read && read.value;
}
