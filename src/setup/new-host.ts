import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
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

/** The script with the commands that bring the data back. */
export const DATA_SCRIPT = 'restore-data.sh';

/**
 * Writes the commands into a script in the project directory, unless a file of that name is there. The commands name no
 * secret.
 *
 * @param directory the project directory
 * @returns whether the script in the directory has these commands
 */
export async function writeDataScript(directory: string, commands: readonly string[]): Promise<boolean> {
  const file = path.join(directory, DATA_SCRIPT);
  const text = ['#!/bin/sh', 'set -e', 'cd "$(dirname "$0")"', ...commands, ''].join('\n');
  try {
    await writeFile(file, text, { flag: 'wx', mode: 0o755 });
    return true;
  } catch {
    // It may come from the backup, which has it if the project moved before.
    return (await readFile(file, 'utf8').catch(() => undefined)) === text;
  }
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
