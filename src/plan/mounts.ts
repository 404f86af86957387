import type { ContainerFacts, Mount, Problem } from './model.ts';
import { dataDirectoriesOf, looksLikePostgres } from './postgres.ts';
import { quote } from './values/fields.ts';
import { didYouMean } from './values/suggest.ts';

/** What decides whether a mount can be backed up, besides the mount itself. */
interface MountContext {
  /** where the repository and its copies are: found through the agent's own mounts */
  repositories: readonly Mount[];
  /** the container is a Postgres source too */
  postgres: boolean;
}

type Finding = Omit<Problem, 'subject'>;

/** Why a mount is not backed up. `quiet`: nobody who asks for all volumes means this one. */
interface Unfit {
  why: string;
  quiet: boolean;
}

/**
 * The mount that holds `path` of the agent, narrowed to that path for a bind. `undefined` when no mount holds it.
 */
export function mountHolding(path: string, agentMounts: readonly Mount[]): Mount | undefined {
  const holding = agentMounts.filter((mount) => contains(mount.destination, path));
  const nearest = holding.sort((a, b) => b.destination.length - a.destination.length)[0];
  if (nearest?.type !== 'bind') return nearest;
  return { ...nearest, source: join(nearest.source, path.slice(nearest.destination.length)) };
}

function join(base: string, rest: string): string {
  return `${base.replace(/\/+$/, '')}/${rest.replace(/^\/+/, '')}`.replace(/(?<=.)\/$/, '');
}

/** True if `path` is `directory` or below it. */
function contains(directory: string, path: string): boolean {
  const base = directory.replace(/\/+$/, '');
  return path === base || path === directory || path.startsWith(`${base}/`);
}

/** Compose names a volume `<project>_<name>`; the user knows it as `<name>`. */
function shortName(mount: Mount, project: string): string | undefined {
  const prefix = `${project}_`;
  return project !== '' && mount.name?.startsWith(prefix) ? mount.name.slice(prefix.length) : mount.name;
}

/** The engine names a volume that nobody named by 64 hex digits. */
function isAnonymous(mount: Mount): boolean {
  return mount.name !== undefined && /^[0-9a-f]{64}$/.test(mount.name);
}

/** The text that tells this mount from others of its service, however often its container is made anew. */
export function labelOf(mount: Mount, project: string): string {
  return mount.name === undefined || isAnonymous(mount) ? mount.destination : shortName(mount, project)!;
}

/** True for a mount that holds, or lies in, the data directory of a Postgres container. */
function holdsDatabase(mount: Mount, container: ContainerFacts): boolean {
  return dataDirectoriesOf(container).some(
    (data) => contains(mount.destination, data) || contains(data, mount.destination),
  );
}

function unfit(container: ContainerFacts, mount: Mount, context: MountContext): Unfit | undefined {
  const { type, source, destination } = mount;
  if (type !== 'volume' && type !== 'bind')
    return { why: `is a ${type} mount, which holds no lasting files`, quiet: true };
  if ([source, destination].some((path) => /\.sock$/.test(path))) return { why: 'is a socket', quiet: true };
  if (context.postgres && holdsDatabase(mount, container)) {
    return {
      why: 'holds the database files, which cannot be copied while in use; lifeboat.postgres covers them',
      quiet: true,
    };
  }
  const { repositories } = context;
  if (type === 'volume') {
    const same = mount.name !== undefined && repositories.some(({ name }) => name === mount.name);
    return same ? { why: 'holds the backups themselves', quiet: true } : undefined;
  }
  if (['/proc', '/sys', '/dev'].some((path) => contains(path, source))) {
    return { why: `is ${source} of the host, which holds no lasting files`, quiet: true };
  }
  if (source === '/') return { why: 'is the whole host', quiet: false };
  const binds = repositories.filter((repository) => repository.type === 'bind');
  const within = binds.some((repository) => contains(repository.source, source));
  if (within) return { why: 'holds the backups themselves', quiet: true };
  const around = binds.some((repository) => contains(source, repository.source));
  return around ? { why: 'holds the backups themselves', quiet: false } : undefined;
}

/** Which mounts of a container the value of `lifeboat.volumes` means, each volume once, and what is wrong with it. */
export function chooseMounts(
  container: ContainerFacts,
  wanted: true | readonly string[],
  context: MountContext,
): { mounts: Mount[]; problems: Finding[] } {
  const problems: Finding[] = [];
  const chosen = new Map<string, Mount>();
  const ordered = container.mounts.toSorted((a, b) => (a.destination < b.destination ? -1 : 1));
  const named = wanted === true ? ordered : wanted.flatMap((text) => find(container, ordered, text, problems));
  let coveredByDump = false;
  for (const mount of named) {
    const reason = unfit(container, mount, context);
    coveredByDump ||= context.postgres && holdsDatabase(mount, container);
    if (reason === undefined) chosen.set(identityOf(mount), chosen.get(identityOf(mount)) ?? mount);
    else if (wanted !== true || !reason.quiet) problems.push(cannot(container, mount, reason));
  }
  if (chosen.size === 0 && problems.length === 0 && !coveredByDump) {
    const message = 'lifeboat.volumes is true, but the container mounts nothing that can be backed up';
    problems.push({ severity: 'error', code: 'VOLUME_UNKNOWN', message, hint: 'remove the label, or mount a volume' });
  }
  const mounts = [...chosen.values()];
  for (const mount of mounts) problems.push(...warnings(container, mount, context));
  return { mounts, problems };
}

/** Two mounts are the same source if they show the same files. */
export function identityOf(mount: Mount): string {
  return mount.name ?? mount.source;
}

function find(container: ContainerFacts, mounts: Mount[], text: string, problems: Finding[]): Mount[] {
  const path = text.length > 1 ? text.replace(/\/+$/, '') : text;
  const found =
    mounts.find((mount) => mount.name === text) ??
    mounts.find((mount) => mount.destination === path) ??
    mounts.find((mount) => shortName(mount, container.project) === text);
  if (found !== undefined) return [found];
  const labels = mounts.map((mount) => labelOf(mount, container.project));
  const paths = mounts.map((mount) => mount.destination);
  const has = labels.map((label, i) => (label === paths[i] ? label : `${label} (${paths[i]})`));
  const mounted = mounts.length === 0 ? 'it mounts nothing' : `it mounts ${has.join(', ')}`;
  const guess = didYouMean(text, [...labels, ...paths]);
  problems.push({
    severity: 'error',
    code: 'VOLUME_UNKNOWN',
    message: `lifeboat.volumes names ${quote(text)}, which the container does not mount`,
    hint: guess === undefined ? mounted : `${guess} ${mounted}`,
  });
  return [];
}

function cannot(container: ContainerFacts, mount: Mount, reason: Unfit): Finding {
  const label = labelOf(mount, container.project);
  return {
    severity: 'error',
    code: 'LABEL_INVALID',
    message: `lifeboat.volumes means ${quote(label)}, but that ${reason.why}`,
    hint: 'name the volumes to back up, without this one',
  };
}

function warnings(container: ContainerFacts, mount: Mount, context: MountContext): Finding[] {
  if (isAnonymous(mount)) {
    const message = `the volume at ${mount.destination} has no name, so the container gets another one when it is made anew`;
    const hint = 'give the volume a name in the Compose file';
    return [{ severity: 'warning', code: 'VOLUME_UNKNOWN', message, hint }];
  }
  if (!context.postgres && looksLikePostgres(container) && holdsDatabase(mount, container)) {
    const message = `${labelOf(mount, container.project)} holds database files; a copy made while the database runs may not restore`;
    const hint = 'use lifeboat.postgres: "true" instead, or add lifeboat.stop: "true"';
    return [{ severity: 'warning', code: 'LABEL_INVALID', message, hint }];
  }
  return [];
}
