import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { errorInfo, LifeboatError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Destination } from '../destinations/destination.ts';
import { listFacts } from '../docker/discover.ts';
import type { Engine } from '../docker/engine.ts';
import type { ContainerFacts } from '../plan/model.ts';
import type { Settings } from '../plan/settings.ts';
import { quote } from '../plan/values/fields.ts';
import { shellWord } from '../report/restore-command.ts';
import { projectOfSource } from '../run/history.ts';
import { SPOOL } from '../run/mounts.ts';
import { isLocked } from '../run/process-lock.ts';
import { openState } from '../run/state.ts';
import type { Manifest } from '../store/objects/manifest.ts';
import { openRepository } from '../store/repository/open-repository.ts';

/**
 * Restores into another Compose project of the same engine: a copy of the agent's own, `--into-project`. Its state,
 * journals and files of runs are in a directory of their own in the spool, because its sources have the same names as
 * those of the agent's project.
 */
const INTO = 'into';

/** The label in which Compose records the project of a container, and the start of its other labels. */
const COMPOSE = 'com.docker.compose.project';

/** The title of Lifeboat's image, in its labels. */
const IMAGE_TITLE = 'Lifeboat';

/** Returns the directory of the spool that belongs to a restore: `into` names another project. */
export function spoolOf(into: string | undefined, spool = SPOOL): string {
  return into === undefined ? spool : path.join(spool, INTO, into);
}

/** Returns the settings for a restore: in a copy, only its own services can be targets, whatever the agent backs up. */
export function settingsFor(settings: Settings, into: string | undefined): Settings {
  return into === undefined ? settings : { ...settings, scope: { kind: 'project' } };
}

/**
 * Checks that a project can be restored into: it is not the agent's own, its containers exist, and no Lifeboat runs in
 * it or did run, which would make it a live project with backups of its own.
 *
 * @param into as the user named it
 * @param own the agent's own image, and the names of its project
 * @throws USAGE, PROJECT_UNKNOWN, ENGINE_*
 */
export async function checkInto(
  engine: Engine,
  into: string,
  own: { projects: readonly string[]; imageId: string },
): Promise<void> {
  if (!/^[a-z0-9][a-z0-9_-]*$/.test(into)) {
    throw new LifeboatError('USAGE', `--into-project ${quote(into)} is not the name of a Compose project`, {
      hint: 'Names have lower-case letters, digits, hyphens and underscores.',
    });
  }
  if (own.projects.includes(into)) {
    throw new LifeboatError('USAGE', `${into} is the project of Lifeboat itself`, {
      hint: 'Leave out --into-project to restore the project in place.',
    });
  }
  const containers = (await listFacts(engine)).filter(({ project }) => project === into);
  // `docker compose create` creates the Lifeboat of a copy too, and nobody starts it.
  const hasRun = ({ running, life }: ContainerFacts) => running || !['created', undefined].includes(life?.state);
  const agent = containers.find((one) => hasRun(one) && isLifeboat(one, own));
  if (agent) {
    throw new LifeboatError('USAGE', `${into} has a Lifeboat of its own, ${agent.name}, so it is no copy`, {
      hint: `If it is one, remove that container. If not, restore with the Lifeboat of ${into}, without --into-project.`,
    });
  }
  if (containers.length > 0) return;
  throw new LifeboatError('PROJECT_UNKNOWN', `no container of project ${into} exists`, {
    hint: `Create them, with the Compose files of the copy: \`docker compose --project-name ${into} -f FILE… create\`. Then start the databases alone: \`docker compose --project-name ${into} -f FILE… up --detach --wait db\`.`,
  });
}

/** Where the backups of a live project would be. */
interface OwnBackups {
  /** the agent's own */
  destination: Destination;
  /** the project of the agent */
  project: string;
  settings: Pick<Settings, 'keys' | 'scope' | 'signingKeys'>;
  /** `--from`, as given */
  from: string | undefined;
  log: Log;
  spool?: string;
}

/**
 * Checks that a project to restore into is no live one: the agent's own repository has no backups of it. A project that
 * a restore went into before is a copy. With `from`, the agent's own repository may be lost, and is then not read.
 *
 * @throws USAGE, the errors of the destination
 */
export async function refuseLive(into: string, { from, log, spool, ...own }: OwnBackups): Promise<void> {
  if ((await copiesIn(spool)).includes(into)) return;
  const isBackedUp = await hasBackups(into, own).catch((error: unknown) => {
    if (from === undefined) throw error;
    log.warn('the own backups cannot be read, so nothing shows whether this project is a live one', {
      ...{ project: into, ...errorInfo(error) },
    });
    return false;
  });
  if (!isBackedUp) return;
  throw new LifeboatError('USAGE', `${own.destination.name} holds backups of ${into}, so it is no copy`, {
    hint: 'Nothing was changed. Give the copy a name under which nothing was backed up.',
  });
}

async function hasBackups(
  into: string,
  { destination, project, settings: { keys, scope, signingKeys } }: Omit<OwnBackups, 'from' | 'log' | 'spool'>,
): Promise<boolean> {
  if (await hasSnapshots(destination, into)) return true;
  if (scope.kind === 'project' || !(await hasSnapshots(destination, project))) return false;
  // Without the caches of the spool: what is stored there would make the project look like a copy.
  const options = { project, keys, create: false, ...(signingKeys ? { signingKeys } : {}) };
  const { snapshots } = await (await openRepository(destination, options)).snapshots();
  return snapshots.some(({ manifest }) => holdsProject(manifest, into));
}

async function hasSnapshots(destination: Destination, project: string): Promise<boolean> {
  for await (const _ of destination.list(`${project}/snapshots/`)) return true;
  return false;
}

function holdsProject({ sources }: Manifest, project: string): boolean {
  return Object.entries(sources).some(([name, { kind }]) => kind !== 'base' && projectOfSource(name) === project);
}

function isLifeboat({ imageId, imageLabels }: ContainerFacts, own: { imageId: string }): boolean {
  return imageId === own.imageId || imageLabels['org.opencontainers.image.title'] === IMAGE_TITLE;
}

/**
 * Returns the project into which a restore went, by the id of the restore; undefined for the agent's own project. The
 * start of an id is enough only there. Records of copies that cannot be read do not count.
 *
 * @param id as the user gave it
 * @throws USAGE if restores of several projects have it
 */
export async function projectOfRestore(id: string | undefined, spool = SPOOL): Promise<string | undefined> {
  if (id === undefined) return undefined;
  const recorded = (directory: string) => openState(path.join(directory, 'state')).rollbacks();
  const isOwn = (await recorded(spool)).some((one) => one.id.startsWith(id) || one.group?.startsWith(id));
  const found: string[] = [];
  for (const project of await copiesIn(spool)) {
    const rollbacks = await recorded(spoolOf(project, spool)).catch(() => []);
    if (rollbacks.some((one) => one.id === id || one.group === id)) found.push(project);
  }
  if (found.length + Number(isOwn) < 2) return found[0];
  const all = [...(isOwn ? ["Lifeboat's own project"] : []), ...found].join(', ');
  throw new LifeboatError('USAGE', `restores of several projects start with ${id}: ${all}`, {
    hint: 'Nothing was changed. Name a restore of the live project by its full id.',
  });
}

/** Returns the projects into which restores went, apart from the agent's own. */
export async function copiesIn(spool = SPOOL): Promise<string[]> {
  return readdir(path.join(spool, INTO)).catch(() => []);
}

/** Resolves to whether a run is under way, in the agent's own project or into a copy of it. */
export async function isBusyHere(own: string, spool = SPOOL): Promise<boolean> {
  for (const project of [own, ...(await copiesIn(spool))]) if (await isLocked(project)) return true;
  return false;
}

/**
 * Returns the command that starts the other services of a copy, with the Compose files of its containers. The copy gets
 * no agent: it would have the settings of the live project, and report to its monitors.
 *
 * @param agent the service of the agent
 */
export async function startCommand(
  engine: Pick<Engine, 'listContainers'>,
  project: string,
  agent: string,
): Promise<string> {
  const listed = await engine.listContainers({ labels: [`${COMPOSE}=${project}`] });
  const valuesOf = (key: string) => [...new Set(listed.map(({ labels }) => labels[`${COMPOSE}.${key}`] ?? ''))];
  const [directories, files] = [valuesOf('working_dir'), valuesOf('config_files')];
  // The services come from different Compose files, or from files that Compose did not record.
  const isKnown = directories.length === 1 && files.length === 1 && directories[0] !== '' && files[0] !== '';
  const place = isKnown
    ? `--project-directory ${shellWord(directories[0] as string)} ${(files[0] as string)
        .split(',')
        .map((file) => `-f ${shellWord(file)}`)
        .join(' ')}`
    : '-f FILE…';
  const start = `docker compose --project-name ${project} ${place} up --detach --scale ${shellWord(agent)}=0`;
  return isKnown ? start : `${start}, with the Compose files of the copy`;
}
