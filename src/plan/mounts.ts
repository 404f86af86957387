import { contains, join, whyNotMeant } from './host-paths.ts';
import type { ContainerFacts, Mount, PlannedSource, PostgresSource, Problem } from './model.ts';
import { dataDirectoriesOf } from './postgres.ts';
import { quote } from './values/fields.ts';
import { didYouMean } from './values/suggest.ts';

/** Facts that decide, together with the mount itself, whether it can be backed up. */
interface MountContext {
  /** mounts that hold the repository and its copies */
  repositories: readonly Mount[];
  /** the container is also a Postgres source */
  postgres: boolean;
}

type Finding = Omit<Problem, 'subject'>;

/**
 * Why a mount is not backed up. `quiet`: a label that asks for all volumes does not mean it. `note`: the plan mentions
 * that.
 */
interface Unfit {
  why: string;
  quiet: boolean;
  note?: true;
}

/**
 * Returns the mount of the agent that holds `path`, narrowed to that path for a bind, or undefined if no mount holds
 * it.
 */
export function mountHolding(path: string, agentMounts: readonly Mount[]): Mount | undefined {
  const holding = agentMounts.filter((mount) => contains(mount.destination, path));
  const nearest = holding.sort((a, b) => b.destination.length - a.destination.length)[0];
  if (nearest?.type !== 'bind') return nearest;
  return { ...nearest, source: join(nearest.source, path.slice(nearest.destination.length)) };
}

/** Returns the name of a volume as the user knows it: Compose calls it `<project>_<name>`. */
function shortName(mount: Mount, project: string): string | undefined {
  const prefix = `${project}_`;
  return project !== '' && mount.name?.startsWith(prefix) ? mount.name.slice(prefix.length) : mount.name;
}

/** Returns true for a volume without a name of its own, which the engine names by 64 hex digits. */
export function isAnonymous(mount: Mount): boolean {
  return mount.name !== undefined && /^[0-9a-f]{64}$/.test(mount.name);
}

/** Returns the text that identifies a mount within its service, also after its container is recreated. */
export function labelOf(mount: Mount, project: string): string {
  return mount.name === undefined || isAnonymous(mount) ? mount.destination : shortName(mount, project)!;
}

/** Returns true for a mount that holds the data directory of a Postgres container, or is inside it. */
function holdsDatabase(mount: Mount, container: ContainerFacts): boolean {
  return dataDirectoriesOf(container).some(
    (data) => contains(mount.destination, data) || contains(data, mount.destination),
  );
}

/** Why a mount cannot be backed up by any label, in words that follow "it"; undefined if it can. */
export function whyRefused(mount: Mount): string | undefined {
  return unfitAlone(mount)?.why;
}

/** Judges a mount by itself, whatever its container and the place of the backups are. */
function unfitAlone({ type, source, destination, kind, writable }: Mount): Unfit | undefined {
  if (type !== 'volume' && type !== 'bind')
    return { why: `is a ${type} mount, which holds no lasting files`, quiet: true };
  if ([source, destination].some((path) => /\.sock$/.test(path))) return { why: 'is a socket', quiet: true };
  if (kind === 'other') return { why: 'is neither a directory nor a plain file', quiet: true };
  if (type === 'volume') return undefined;
  if (['/proc', '/sys', '/dev'].some((path) => contains(path, source))) {
    return { why: `is ${source} of the host, which holds no lasting files`, quiet: true };
  }
  return source === '/' ? { why: 'is the whole host', quiet: false, ...(writable ? {} : { note: true }) } : undefined;
}

function unfit(container: ContainerFacts, mount: Mount, { postgres, repositories }: MountContext): Unfit | undefined {
  const alone = unfitAlone(mount);
  if (alone) return alone;
  if (postgres && holdsDatabase(mount, container)) {
    return {
      why: 'holds the database files, which cannot be copied while in use; lifeboat.postgres covers them',
      quiet: true,
    };
  }
  const { type, source } = mount;
  if (type === 'volume') {
    const same = mount.name !== undefined && repositories.some(({ name }) => name === mount.name);
    return same ? { why: 'holds the backups themselves', quiet: true } : undefined;
  }
  const binds = repositories.filter((repository) => repository.type === 'bind');
  const within = binds.some((repository) => contains(repository.source, source));
  if (within) return { why: 'holds the backups themselves', quiet: true };
  const around = binds.some((repository) => contains(source, repository.source));
  return around ? { why: 'holds the backups themselves', quiet: false } : undefined;
}

/** The mounts of one container that `lifeboat.volumes` selects. */
interface ChosenMounts {
  /** each volume once */
  mounts: Mount[];
  problems: Finding[];
  /** messages about mounts that `true` does not mean */
  notes: string[];
  /** the label names something that the container does not mount, or asks for all volumes and there are none */
  missing: Finding[];
}

/** Chooses the mounts of a container that the value of `lifeboat.volumes` means. */
export function chooseMounts(
  container: ContainerFacts,
  wanted: true | readonly string[],
  context: MountContext,
): ChosenMounts {
  const problems: Finding[] = [];
  const missing: Finding[] = [];
  const notes: string[] = [];
  const chosen = new Map<string, Mount>();
  const ordered = container.mounts.toSorted((a, b) => (a.destination < b.destination ? -1 : 1));
  const named = wanted === true ? ordered : wanted.flatMap((text) => find(container, ordered, text, missing));
  let coveredByDump = false;
  for (const mount of named) {
    const reason = unfit(container, mount, context) ?? (wanted === true ? notMeant(mount) : undefined);
    coveredByDump ||= context.postgres && holdsDatabase(mount, container);
    if (reason === undefined) chosen.set(identityOf(mount), chosen.get(identityOf(mount)) ?? mount);
    else if (wanted === true && reason.note) notes.push(noteOf(container, mount, reason));
    else if (wanted !== true || !reason.quiet) problems.push(cannot(container, mount, reason));
  }
  const said = problems.length + missing.length + notes.length > 0;
  if (chosen.size === 0 && !said && !coveredByDump) {
    const message = 'lifeboat.volumes is true, but the container mounts nothing that can be backed up';
    missing.push({ severity: 'error', code: 'VOLUME_UNKNOWN', message, hint: 'remove the label, or mount a volume' });
  }
  const mounts = [...chosen.values()];
  for (const mount of mounts) problems.push(...warnings(mount));
  return { mounts, problems, notes, missing };
}

function notMeant(mount: Mount): Unfit | undefined {
  const why = whyNotMeant(mount);
  return why === undefined ? undefined : { why, quiet: true, note: true };
}

function noteOf(container: ContainerFacts, mount: Mount, { why, quiet }: Unfit): string {
  // A mount that is not quiet cannot be backed up by name either.
  const advice = quiet ? '; name it in lifeboat.volumes if it should be' : '';
  return `${labelOf(mount, container.project)} ${why}, so it is not backed up${advice}`;
}

/** Returns the identity of a mount: two mounts with the same identity show the same files. */
export function identityOf(mount: Mount): string {
  return mount.name ?? mount.source;
}

/**
 * Returns the volume or the path on the host that holds the data of a source: `volume shop_media`, `/srv/media`.
 * Undefined if it is not known.
 */
export function placeOfSource(source: PlannedSource): string | undefined {
  if (source.kind === 'files') return undefined;
  const mount = source.kind === 'volume' ? source.mount : dataMount(source);
  if (!mount || (mount.type !== 'volume' && mount.type !== 'bind')) return undefined;
  return mount.name === undefined ? mount.source : `volume ${mount.name}`;
}

/** Returns the mount that holds the data directory of a Postgres container. */
function dataMount({ mounts, dataDirectories }: Pick<PostgresSource, 'mounts' | 'dataDirectories'>): Mount | undefined {
  for (const data of dataDirectories) {
    const holding = mounts.filter(({ destination }) => contains(destination, data));
    const [nearest] = holding.sort((a, b) => b.destination.length - a.destination.length);
    if (nearest) return nearest;
  }
  return undefined;
}

function find(container: ContainerFacts, mounts: Mount[], text: string, missing: Finding[]): Mount[] {
  const path = text.length > 1 ? text.replace(/\/+$/, '') : text;
  const found =
    mounts.find((mount) => mount.name === text) ??
    mounts.find((mount) => mount.destination === path) ??
    mounts.find((mount) => shortName(mount, container.project) === text) ??
    mounts.find((mount) => mount.key === text);
  if (found !== undefined) return [found];
  const labels = mounts.map((mount) => labelOf(mount, container.project));
  const paths = mounts.map((mount) => mount.destination);
  const has = labels.map((label, i) => (label === paths[i] ? label : `${label} (${paths[i]})`));
  const mounted = mounts.length === 0 ? 'it mounts nothing' : `it mounts ${has.join(', ')}`;
  const guess = didYouMean(text, [...labels, ...paths]);
  missing.push({
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
    message: `lifeboat.volumes selects ${quote(label)}, but that ${reason.why}`,
    hint: 'name the volumes to back up, without this one',
  };
}

function warnings(mount: Mount): Finding[] {
  if (!isAnonymous(mount)) return [];
  const message = `the volume at ${mount.destination} has no name, so the container gets another one when it is recreated`;
  return [{ severity: 'warning', code: 'VOLUME_UNKNOWN', message, hint: 'give the volume a name in the Compose file' }];
}
