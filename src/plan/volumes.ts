import type { ContainerFacts, Mount, Note, PlannedSource, Problem, StoppedContainer, VolumeSource } from './model.ts';
import { chooseMounts, identityOf, labelOf, mountHolding } from './mounts.ts';
import { startCommand, uniqueSlugs } from './names.ts';
import type { Asked, PlanInput } from './services.ts';

/** The labels of containers become volume sources; services that share a volume share its source. */

type Finding = Omit<Problem, 'subject'>;

/** The volumes that the labels of one service select, with what is wrong. */
export interface ServiceVolumes {
  sources: VolumeSource[];
  problems: Finding[];
  /** problems of labels that select nothing; `label` is the value, to find other services that have it too */
  missing: (Finding & { label: string })[];
  notes: string[];
}

/** The properties that all sources of a container share. */
type SourceParts = Omit<PlannedSource, 'kind' | 'name'>;

/** Plans the volumes of one service. `slug`: the first part of the names; `partsOf`: the rest that sources share. */
export function planVolumes(
  containers: readonly Asked[],
  slug: string,
  input: PlanInput,
  partsOf: (asked: Asked) => SourceParts,
): ServiceVolumes {
  const found = new Map<string, { asked: Asked; mount: Mount }>();
  const planned: ServiceVolumes = { sources: [], problems: [], missing: [], notes: [] };
  for (const asked of containers) {
    for (const mount of mountsOf(asked, input, planned)) {
      const identity = identityOf(mount);
      if (!found.has(identity)) found.set(identity, { asked, mount });
    }
  }
  const slugs = uniqueSlugs([...found.values()].map(({ asked, mount }) => labelOf(mount, asked.container.project)));
  planned.sources = [...found.values()].map(({ asked, mount }): VolumeSource => {
    const { values, container } = asked;
    const volume = slugs.get(labelOf(mount, container.project))!;
    return {
      kind: 'volume',
      ...partsOf(asked),
      // `<service>.postgres` is the name of the service's databases.
      name: `${slug}.${volume === 'postgres' ? 'postgres-volume' : volume}`,
      mount,
      include: values['lifeboat.volumes.include'] ?? [],
      exclude: values['lifeboat.volumes.exclude'] ?? [],
      stop: values['lifeboat.stop'] ? mounting(containers, mount) : [],
      ...(values['lifeboat.volumes'] === true ? { all: true } : {}),
      ...(values['lifeboat.postgres'] === true ? { withPostgres: true } : {}),
    };
  });
  return planned;
}

/** Returns the mounts that one container asks for. Adds problems and notes to `planned`. */
function mountsOf(asked: Asked, { settings, agentMounts = [], project }: PlanInput, planned: ServiceVolumes): Mount[] {
  const { container, values, mistakes } = asked;
  const wanted = values['lifeboat.volumes'];
  if (!wanted || mistakes.some(({ key, kind }) => key === 'lifeboat.stop' && kind === 'invalid')) return [];
  const postgres = values['lifeboat.postgres'] === true;
  if (postgres && values['lifeboat.stop']) {
    const message =
      'lifeboat.stop would stop the database that lifeboat.postgres needs running, so its volumes are not backed up';
    planned.problems.push({ severity: 'error', code: 'LABEL_INVALID', message, hint: 'remove one of them' });
    return [];
  }
  const places = [settings.destination, ...settings.copies.map(({ location }) => location)];
  const repositories = places.flatMap((path) => mountHolding(path, agentMounts) ?? []);
  const chosen = chooseMounts(container, wanted, { repositories, postgres });
  planned.problems.push(...chosen.problems);
  planned.notes.push(...chosen.notes);
  const label = JSON.stringify(wanted);
  planned.missing.push(...chosen.missing.map((one) => ({ ...one, label })));
  if (!container.running && chosen.mounts.length > 0) planned.problems.push(stoppedWarning(asked, project));
  return chosen.mounts;
}

/** Returns the containers of a service that mount a volume: each of them may write to it. */
function mounting(containers: readonly Asked[], mount: Mount): StoppedContainer[] {
  return containers
    .map(({ container }) => container)
    .filter(({ mounts }) => mounts.some((each) => identityOf(each) === identityOf(mount)))
    .map(({ id, name }) => ({ id, name }));
}

function stoppedWarning({ container, values }: Asked, project: string): Finding {
  const hooks = values['lifeboat.exec.pre'] !== undefined || values['lifeboat.exec.post'] !== undefined;
  const message = `container ${container.name} is not running; its volumes are backed up as they are${hooks ? ', without the commands of lifeboat.exec' : ''}`;
  const hint = `Start it with \`${startCommand(container, project)}\`, or remove its labels.`;
  return { severity: 'warning', code: 'CONTAINER_STOPPED', message, hint };
}

/** A volume source with the service that asks for it. */
interface AskedVolume {
  source: VolumeSource;
  subject: string;
}

/** The result of merging the sources of services that share volumes. */
interface SharedVolumes<T> {
  kept: T[];
  /** see {@link Plan.shared} */
  shared: Record<string, string>;
  problems: Problem[];
  notes: Note[];
}

/**
 * Gives each volume one source, even if several services ask for it, for example with a label on a YAML anchor.
 * Services that ask for different parts of a volume (include, exclude) keep their own sources. The source keeps the
 * name under which the volume is backed up already, or gets that of a service that can write to it. It stops the
 * containers that any of the services wants stopped.
 *
 * @param known names of sources that are backed up already
 */
export function shareVolumes<T extends AskedVolume>(asked: readonly T[], known: readonly string[]): SharedVolumes<T> {
  const result: SharedVolumes<T> = { kept: [], shared: {}, problems: [], notes: [] };
  const partOf = ({ source: { mount, include, exclude } }: T) =>
    JSON.stringify([identityOf(mount), include.toSorted(), exclude.toSorted()]);
  for (const same of Map.groupBy(asked, partOf).values()) {
    const names = [...new Set(same.map(({ source }) => source.name))];
    // Sources with the same name are reported as duplicates.
    if (names.length < same.length) {
      result.kept.push(...same);
      continue;
    }
    const [first, ...others] = same.toSorted((a, b) => rankOf(a.source, known) - rankOf(b.source, known)) as [
      T,
      ...T[],
    ];
    result.kept.push({ ...first, source: merged(first.source, others) });
    if (others.length === 0) continue;
    const services = others.map(({ subject }) => subject).join(', ');
    const what = labelOf(first.source.mount, first.source.project);
    result.notes.push({
      subject: first.source.name,
      message: `${what} is shared with ${services} and stored once, as ${first.source.name}`,
    });
    for (const { source } of others) result.shared[source.name] = first.source.name;
    result.problems.push(...differences(first, others));
  }
  return result;
}

function rankOf({ name, mount, pre, post, life }: VolumeSource, known: readonly string[]): number {
  const hooked = pre !== undefined || post !== undefined;
  return (
    (known.includes(name) ? 0 : 8) + (mount.writable ? 0 : 4) + (life?.state === 'exited' ? 2 : 0) + (hooked ? 0 : 1)
  );
}

function merged(first: VolumeSource, others: readonly AskedVolume[]): VolumeSource {
  const stop = new Map(first.stop.map((one) => [one.id, one]));
  for (const { source } of others) {
    const { project, service } = source;
    for (const one of source.stop) if (!stop.has(one.id)) stop.set(one.id, { ...one, project, service });
  }
  const { all: _, ...rest } = first;
  const byAll = first.all && others.every(({ source }) => source.all);
  const doubt = [first, ...others.map(({ source }) => source)].find(({ keepInDoubt }) => keepInDoubt)?.keepInDoubt;
  return {
    ...rest,
    stop: [...stop.values()],
    ...(byAll ? { all: true } : {}),
    ...(doubt === undefined ? {} : { keepInDoubt: doubt }),
  };
}

/** Returns whether a service sets a label. Schedule and keep policy have a value in any case. */
function isSet(label: string, { pre, post, restored, health }: VolumeSource): boolean {
  if (label === 'lifeboat.health') return health !== undefined;
  return label !== 'lifeboat.exec' || (pre ?? post ?? restored) !== undefined;
}

/** Warns of labels of the other services that have no effect on the shared source. */
function differences<T extends AskedVolume>({ source, subject }: T, others: readonly T[]): Problem[] {
  const asks = ({ pre, post, restored, health, schedule, keep }: VolumeSource) => ({
    'lifeboat.exec': [pre ?? null, post ?? null, restored ?? null],
    'lifeboat.health': health,
    'lifeboat.schedule': schedule,
    'lifeboat.keep': keep,
  });
  const own = asks(source);
  return others.flatMap((other) => {
    const theirs = asks(other.source);
    const different = (Object.keys(own) as (keyof typeof own)[])
      .filter((label) => isSet(label, other.source))
      .filter((label) => JSON.stringify(own[label]) !== JSON.stringify(theirs[label]));
    if (different.length === 0) return [];
    const what = labelOf(source.mount, source.project);
    const message = `${what} is stored once, as ${source.name}, by the labels of ${subject}; ${different.join(' and ')} of ${other.subject} ${different.length === 1 ? 'does' : 'do'} not apply to it`;
    const hint = 'set the same labels on both services, or label one of them';
    return [{ severity: 'warning', code: 'LABEL_INVALID', subject: other.subject, message, hint } as const];
  });
}

/** Adds to a source the containers that can write to its volume and are not stopped for it. */
export function withWriters(source: VolumeSource, input: PlanInput): VolumeSource {
  const writers = writersOf(source, input).map(({ name }) => name);
  return writers.length === 0 ? source : { ...source, writers };
}

function writersOf({ mount, stop }: VolumeSource, input: PlanInput): ContainerFacts[] {
  return writersTo(mount, input).filter(({ id }) => !stop.some((one) => one.id === id));
}

/** Returns the running containers that can write to a volume, except the agent, sorted by name. */
export function writersTo(
  mount: Mount,
  { containers, agentId }: Pick<PlanInput, 'containers' | 'agentId'>,
): ContainerFacts[] {
  const writes = (each: Mount) => each.writable && identityOf(each) === identityOf(mount);
  return containers
    .filter(({ running, id, mounts }) => running && id !== agentId && mounts.some(writes))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Finds other services that can write to a volume while it is read. With `lifeboat.stop`, they are a warning, because
 * the user expects that nothing writes. Without it, containers of other projects are a note.
 */
export function otherWriters(
  { source, subject }: AskedVolume,
  input: PlanInput,
): { problems: Problem[]; notes: Note[] } {
  const { project, service, mount, stop } = source;
  const others = writersOf(source, input).filter((other) => other.project !== project || other.service !== service);
  const what = labelOf(mount, project);
  if (stop.length > 0) {
    if (others.length === 0) return { problems: [], notes: [] };
    const names = others.map((other) => nameOf(other, project)).join(', ');
    const message = `${names} can write to ${what} too, and lifeboat.stop does not stop ${others.length === 1 ? 'it' : 'them'}`;
    const hint = 'mount the volume read-only where it is only read';
    return { problems: [{ severity: 'warning', code: 'LABEL_INVALID', subject, message, hint }], notes: [] };
  }
  const foreign = others.filter((other) => other.project !== project).map((other) => nameOf(other, project));
  if (foreign.length === 0) return { problems: [], notes: [] };
  return { problems: [], notes: [{ subject: source.name, message: `${foreign.join(', ')} can write to ${what} too` }] };
}

function nameOf(container: ContainerFacts, own: string): string {
  const { name, project } = container;
  return project === own ? name : `${name} (${projectOf(container)})`;
}

/** Names the service and the project of a container: `service web of project shop`. */
export function projectOf({ service, project }: ContainerFacts): string {
  return project === '' ? 'no Compose project' : `${service === '' ? '' : `service ${service} of `}project ${project}`;
}
