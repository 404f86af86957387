import { blocksAll, isAboutKeep, labelProblem, nothingLabelled } from './label-problems.ts';
import type { ContainerFacts, FilesSource, Mount, Plan, PlannedSource, Problem } from './model.ts';
import { chooseMounts, identityOf, labelOf, mountHolding } from './mounts.ts';
import { uniqueSlugs } from './names.ts';
import { postgresSource } from './postgres.ts';
import {
  type Asked,
  asks,
  groupByService,
  isInScope,
  isOneOff,
  type PlanInput,
  type Service,
  serviceSlugs,
} from './services.ts';
import type { Settings } from './settings.ts';
import { visible } from './values/fields.ts';
import { didYouMean } from './values/suggest.ts';

export type { PlanInput } from './services.ts';

/** A source with what it was made from, to find out who has the same name. */
interface Candidate {
  source: PlannedSource;
  subject: string;
}

/** Decides what is backed up, and tells whatever is not as the user can have meant it. Never throws for bad input. */
export function buildPlan(input: PlanInput): Plan {
  const inScope = input.containers.filter((container) => !isOneOff(container) && isInScope(container, input));
  const services = groupByService(inScope, input.project);
  const problems: Problem[] = [];
  const candidates: Candidate[] = [];
  const slugs = serviceSlugs(services);
  for (const service of services) {
    candidates.push(...planService(service, slugs.get(service)!, input, problems));
  }
  const sources = dropDuplicates(candidates, problems);
  if (input.configFiles) sources.push(configSource(input.settings));
  problems.push(...nothingLabelled(services, input), ...strayCredentials(sources, input.settings));
  return {
    project: input.project,
    sources: sources.sort((a, b) => (a.name < b.name ? -1 : 1)),
    problems: ordered(problems),
  };
}

function planService(service: Service, slug: string, input: PlanInput, problems: Problem[]): Candidate[] {
  const { subject } = service;
  const usable: Asked[] = [];
  for (const asked of service.containers) {
    problems.push(
      ...asked.mistakes.map((mistake) =>
        labelProblem(subject, mistake, { container: asked.container, asked: asks(asked) }),
      ),
    );
    if (!asked.mistakes.some(blocksAll)) usable.push(asked);
  }
  const postgres = planPostgres(usable, slug, input.settings);
  const volumes = planVolumes(usable, slug, input);
  problems.push(...[...postgres.problems, ...volumes.problems].map((problem) => ({ ...problem, subject })));
  const doubt = keepDoubt(service);
  return [...postgres.sources, ...volumes.sources].map((source) => ({ source: { ...source, ...doubt }, subject }));
}

/** Whichever container of a service has the mistake: it is meant for all that the service's sources hold. */
function keepDoubt({ containers }: Service): Pick<PlannedSource, 'keepInDoubt'> {
  const about = containers.flatMap(({ container, mistakes }) =>
    mistakes.filter((mistake) => isAboutKeep(mistake, container.labels[mistake.key])),
  );
  const [first] = about;
  return first ? { keepInDoubt: `the label ${visible(first.key.slice(0, 80))} has a mistake` } : {};
}

interface Part {
  sources: PlannedSource[];
  problems: Omit<Problem, 'subject'>[];
}

function planPostgres(containers: readonly Asked[], slug: string, settings: Settings): Part {
  const wanted = containers.filter(({ values }) => values['lifeboat.postgres']);
  const [first] = wanted;
  if (first === undefined) return { sources: [], problems: [] };
  const { container, values } = first;
  if (!container.running) {
    const message = `container ${container.name} is not running, so its databases cannot be backed up`;
    const hint = 'start it, or remove lifeboat.postgres';
    return { sources: [], problems: [{ severity: 'error', code: 'CONTAINER_STOPPED', message, hint }] };
  }
  if (wanted.length > 1) {
    const names = wanted.map((each) => each.container.name).join(' and ');
    const message = `${names} are databases of one service, so it cannot be told which one to back up`;
    const hint = 'run the service with one container';
    return { sources: [], problems: [{ severity: 'error', code: 'SOURCE_DUPLICATE', message, hint }] };
  }
  const base = baseOf(first, settings);
  return {
    sources: [postgresSource({ ...base, name: `${slug}.postgres` }, container, values, settings)],
    problems: [],
  };
}

function baseOf({ container, values }: Asked, settings: Settings) {
  const [pre, post] = [values['lifeboat.exec.pre'], values['lifeboat.exec.post']];
  return {
    project: container.project,
    service: container.service,
    containerId: container.id,
    containerName: container.name,
    schedule: values['lifeboat.schedule'] ?? settings.schedule,
    keep: values['lifeboat.keep'] ?? settings.keep,
    ...(pre !== undefined && container.running ? { pre } : {}),
    ...(post !== undefined && container.running ? { post } : {}),
  };
}

function planVolumes(containers: readonly Asked[], slug: string, input: PlanInput): Part {
  const found = new Map<string, { asked: Asked; mount: Mount }>();
  const problems: Part['problems'] = [];
  for (const asked of containers) {
    const { container, values, mistakes } = asked;
    const wanted = values['lifeboat.volumes'];
    if (!wanted || mistakes.some(({ key, kind }) => key === 'lifeboat.stop' && kind === 'invalid')) continue;
    const postgres = values['lifeboat.postgres'] === true;
    if (postgres && values['lifeboat.stop']) {
      const message =
        'lifeboat.stop would stop the database that lifeboat.postgres needs running, so its volumes are not backed up';
      problems.push({ severity: 'error', code: 'LABEL_INVALID', message, hint: 'remove one of them' });
      continue;
    }
    const { destination, copies } = input.settings;
    const repositories = [destination, ...copies.map(({ location }) => location)].flatMap(
      (path) => mountHolding(path, input.agentMounts ?? []) ?? [],
    );
    const chosen = chooseMounts(container, wanted, { repositories, postgres });
    problems.push(...chosen.problems);
    if (!container.running && chosen.mounts.length > 0) problems.push(stoppedWarning(asked));
    for (const mount of chosen.mounts) {
      const identity = identityOf(mount);
      if (!found.has(identity)) found.set(identity, { asked, mount });
    }
  }
  const slugs = uniqueSlugs([...found.values()].map(({ asked, mount }) => labelOf(mount, asked.container.project)));
  const sources = [...found.values()].map(({ asked, mount }): PlannedSource => {
    const volume = slugs.get(labelOf(mount, asked.container.project))!;
    return {
      kind: 'volume',
      ...baseOf(asked, input.settings),
      // `<service>.postgres` is the name of the service's databases.
      name: `${slug}.${volume === 'postgres' ? 'postgres-volume' : volume}`,
      mount,
      include: asked.values['lifeboat.volumes.include'] ?? [],
      exclude: asked.values['lifeboat.volumes.exclude'] ?? [],
      stop: asked.values['lifeboat.stop'] ? mounting(containers, mount) : [],
    };
  });
  for (const { asked, mount } of found.values()) {
    if (asked.values['lifeboat.stop']) problems.push(...otherWriters(asked.container, mount, input));
  }
  return { sources, problems };
}

/** Whoever has a container stopped wants its files at rest, which they are not while another service writes to them. */
function otherWriters({ project, service }: ContainerFacts, mount: Mount, input: PlanInput): Part['problems'] {
  const writes = (each: Mount) => each.writable && identityOf(each) === identityOf(mount);
  const others = input.containers.filter(
    (other) =>
      other.running &&
      other.id !== input.agentId &&
      !(other.project === project && other.service === service) &&
      other.mounts.some(writes),
  );
  if (others.length === 0) return [];
  const names = others.map(({ name }) => name).sort();
  const message = `${names.join(', ')} can write to ${labelOf(mount, project)} too, and lifeboat.stop does not stop ${names.length === 1 ? 'it' : 'them'}`;
  const hint = 'mount the volume read-only where it is only read';
  return [{ severity: 'warning', code: 'LABEL_INVALID', message, hint }];
}

/** With several containers of a service, each of them may write to the volume that they share. */
function mounting(containers: readonly Asked[], mount: Mount): { id: string; name: string }[] {
  return containers
    .map(({ container }) => container)
    .filter(({ mounts }) => mounts.some((each) => identityOf(each) === identityOf(mount)))
    .map(({ id, name }) => ({ id, name }));
}

function stoppedWarning({ container, values }: Asked): Part['problems'][number] {
  const hooks = values['lifeboat.exec.pre'] !== undefined || values['lifeboat.exec.post'] !== undefined;
  const message = `container ${container.name} is not running; its volumes are backed up as they are${hooks ? ', without the commands of lifeboat.exec' : ''}`;
  return { severity: 'warning', code: 'CONTAINER_STOPPED', message, hint: 'start it, or remove its labels' };
}

function dropDuplicates(candidates: readonly Candidate[], problems: Problem[]): PlannedSource[] {
  const kept: PlannedSource[] = [];
  for (const [name, same] of Map.groupBy(candidates, ({ source }) => source.name)) {
    if (same.length === 1) kept.push(same[0]!.source);
    else for (const one of same) problems.push(duplicate(name, one, same));
  }
  return kept;
}

function duplicate(name: string, one: Candidate, same: readonly Candidate[]): Problem {
  const others = [...new Set(same.filter((each) => each !== one).map((each) => describe(each.source)))];
  return {
    severity: 'error',
    code: 'SOURCE_DUPLICATE',
    subject: one.subject,
    message: `${describe(one.source)} has the source name ${name}, and so has ${others.join(', and ')}; neither is backed up`,
    hint: 'give one of the services another lifeboat.name, or name the volumes',
  };
}

function describe(source: PlannedSource): string {
  const what = source.kind === 'volume' ? `the volume at ${source.mount.destination}` : 'the database';
  return `${what} of ${source.containerName}`;
}

/** A password that no source takes is mostly a misspelt name, and its source goes on with another one. */
function strayCredentials(sources: readonly PlannedSource[], { pgCredentials }: Settings): Problem[] {
  const names = sources.filter(({ kind }) => kind === 'postgres').map(({ name }) => name);
  const stray = pgCredentials.filter(({ source }) => !names.includes(source));
  return stray.map(({ source }) => {
    const hint = didYouMean(source, names) ?? 'name a source as `lifeboat plan` shows it';
    const message = `LIFEBOAT_PGCREDENTIALS is for ${source}, and there is no such Postgres source now`;
    return { severity: 'warning', code: 'SETTING_INVALID', subject: 'LIFEBOAT_PGCREDENTIALS', message, hint };
  });
}

function configSource(settings: Settings): FilesSource {
  const none = { project: '', service: '', containerId: '', containerName: '' };
  return { kind: 'files', name: 'config', ...none, schedule: settings.schedule, keep: settings.keep, root: '/config' };
}

/** Errors first, each problem once: the containers of a scaled service share theirs. */
function ordered(problems: readonly Problem[]): Problem[] {
  const unique = new Map(problems.map((problem) => [JSON.stringify(problem), problem]));
  const rank = ({ severity, subject, code, message }: Problem) => [severity, subject, code, message].join('\0');
  return [...unique.values()]
    .map((problem) => ({
      ...problem,
      subject: visible(problem.subject),
      message: visible(problem.message),
      ...(problem.hint === undefined ? {} : { hint: visible(problem.hint) }),
    }))
    .sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
}
