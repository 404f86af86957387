import path from 'node:path';
import { LifeboatError } from '../base/errors.ts';
import type { ContainerDetails } from '../docker/answers.ts';
import type { CallOptions, Engine } from '../docker/engine.ts';
import { isNotFound } from '../docker/engine-errors.ts';
import { PROJECT_LABEL, RUN_LABEL } from '../docker/helper-labels.ts';
import type { Mount, PlannedSource } from '../plan/model.ts';
import { readJson, writeJson } from '../run/state-files.ts';

/** The label in which Compose records the project of a container or volume. */
const COMPOSE_PROJECT = 'com.docker.compose.project';

/** Writable mounts below these hold no data of a server: its configuration, and its first scripts. */
const NO_DATA = ['/etc', '/docker-entrypoint-initdb.d'];

const HINT =
  'Give the copy a named volume of its own under `volumes:`, without `name:`, `external:` and `driver_opts:`.';

/** The dependencies of {@link refuseForeignData}. */
interface CopyDeps {
  engine: Pick<Engine, 'inspectContainer' | 'inspectVolume' | 'listContainers'>;
  project: string;
  isCopy?: boolean;
}

/**
 * Refuses to replace data in a copy of a project unless it is certain that the data belongs to the copy. The container
 * must belong to the copy. So must every volume with the data: Compose created it for the copy, it has no driver
 * options, which could lead to other data, and no container of another project mounts it. For a server, this concerns
 * all mounts that it can write to. Does nothing if the project is no copy.
 *
 * @param target the source whose data is replaced; undefined: unknown, so a copy refuses it
 * @returns the names of those volumes; none if the project is no copy
 * @throws TREE_TARGET_REFUSED, ENGINE_*
 */
export async function refuseForeignData(
  { engine, project, isCopy = false }: CopyDeps,
  target: PlannedSource | undefined,
  options: CallOptions = {},
): Promise<string[]> {
  if (!isCopy) return [];
  if (target?.project !== project) throw refused(`${target?.name ?? 'the target'} is not a source of ${project}`);
  const container = await containerOf(engine, target.containerId, options);
  if (container?.labels[COMPOSE_PROJECT] !== project)
    throw refused(`${target.containerName} is gone, or is not a container of ${project}`);
  const mounts = target.kind === 'volume' ? [target.mount] : container.mounts.filter(canHoldData);
  const shared = mounts.length === 0 ? new Map<string, string>() : await foreignVolumes(engine, project, options);
  for (const { name, source, type } of mounts) {
    if (name === undefined) {
      throw refused(
        type === 'volume'
          ? `${target.name} of ${project} has a volume without a name`
          : `${target.name} of ${project} uses the directory ${source} of the host, which may be that of another project`,
      );
    }
    const { labels, options: driver } = await engine.inspectVolume(name, options);
    const owner = labels[COMPOSE_PROJECT];
    const where = `${target.name} of ${project} uses the volume ${name}, which`;
    if (owner !== project)
      throw refused(`${where} belongs to ${owner === undefined ? 'no project' : `project ${owner}`}`);
    if (Object.keys(driver).length > 0) throw refused(`${where} has driver options, so its data may be elsewhere`);
    const other = shared.get(name);
    if (other !== undefined) throw refused(`${where} ${other} mounts too`);
  }
  return mounts.flatMap(({ name }) => name ?? []);
}

/** Returns undefined for a container that is gone. */
async function containerOf(
  engine: Pick<Engine, 'inspectContainer'>,
  id: string,
  options: CallOptions,
): Promise<ContainerDetails | undefined> {
  try {
    return await engine.inspectContainer(id, options);
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

function refused(message: string): LifeboatError {
  return new LifeboatError('TREE_TARGET_REFUSED', message, { hint: HINT });
}

function canHoldData({ type, writable, destination }: Mount): boolean {
  if (!writable || type === 'tmpfs') return false;
  return !NO_DATA.some((directory) => `${destination}/`.startsWith(`${directory}/`));
}

/** Returns the volumes that containers outside of a project mount, and the container. Helpers of the project may. */
async function foreignVolumes(
  engine: Pick<Engine, 'listContainers'>,
  project: string,
  options: CallOptions,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const { name, labels, mounts } of await engine.listContainers(options)) {
    const isOurs = labels[COMPOSE_PROJECT] === project;
    const isHelper = labels[RUN_LABEL] !== undefined && labels[PROJECT_LABEL] === project;
    if (isOurs || isHelper) continue;
    for (const mount of mounts) if (mount.name !== undefined) found.set(mount.name, name);
  }
  return found;
}

/** The file in the state of a copy that names the volumes into which restores put data. */
const fileOf = (directory: string) => path.join(directory, 'volumes.json');

/** Remembers volumes into which a restore into a copy is about to put data. */
export async function rememberVolumes(directory: string, names: readonly string[]): Promise<void> {
  const known = await rememberedVolumes(directory);
  if (names.some((name) => !known.includes(name))) {
    await writeJson(fileOf(directory), [...new Set([...known, ...names])]);
  }
}

/** Returns the volumes into which restores into a copy put data. */
export async function rememberedVolumes(directory: string): Promise<string[]> {
  return (await readJson<string[]>(fileOf(directory))) ?? [];
}
