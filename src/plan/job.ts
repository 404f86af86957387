import { planConfig } from './config.ts';
import { withFileMounts } from './host-paths.ts';
import {
  blocksAll,
  isAboutKeep,
  labelProblem,
  nothingLabelled,
  skippedCopies,
  strayCredentials,
  unreadLabels,
} from './label-problems.ts';
import type { HookService, Note, Plan, PlannedSource, Problem, VolumeSource } from './model.ts';
import { baseSource, postgresSource, stoppedDatabase, stoppedOf } from './postgres.ts';
import {
  type Asked,
  asks,
  baseOf,
  groupByService,
  guestsOf,
  hasOnlyHooks,
  hooksOf,
  isInScope,
  isOneOff,
  type PlanInput,
  type Service,
  serviceSlugs,
} from './services.ts';
import { visible } from './values/fields.ts';
import { otherWriters, planVolumes, type ServiceVolumes, shareVolumes, withWriters } from './volumes.ts';

export type { PlanInput } from './services.ts';

/** A source and the service it belongs to, for messages about duplicate names. */
interface Candidate {
  source: PlannedSource;
  subject: string;
}

/** The sources that the labels of one service select. */
interface ServicePlan {
  service: Service;
  candidates: Candidate[];
  problems: Problem[];
  missing: ServiceVolumes['missing'];
  notes: Note[];
  /** of a service that only has commands */
  hooks: HookService[];
  /** databases whose container does not run, see {@link Plan} */
  stopped: Plan['stopped'];
}

/** Decides what is backed up, and reports what is not as the user may have meant it. Never throws for bad input. */
export function buildPlan(input: PlanInput): Plan {
  const inScope = input.containers.filter((container) => !isOneOff(container) && isInScope(container, input));
  const services = groupByService(inScope, input.project);
  const slugs = serviceSlugs(services);
  const planned = services.map((service) => planService(service, slugs.get(service)!, input));
  const missing = planned.map((one) => missingOf(one, planned));
  const problems = [...planned, ...missing].flatMap((one) => one.problems);
  const notes = [...planned, ...missing].flatMap((one) => one.notes);
  const candidates = planned.flatMap((one) => one.candidates);
  const hooks = planned.flatMap((one) => one.hooks);
  const stopped = Object.assign({}, ...planned.map((one) => one.stopped)) as NonNullable<Plan['stopped']>;
  const volumes = shareVolumes(candidates.filter(isVolume), input.known ?? []);
  problems.push(...volumes.problems);
  notes.push(...volumes.notes);
  for (const volume of volumes.kept) {
    for (const found of [otherWriters(volume, input), guestsOf(volume, input)]) {
      problems.push(...found.problems);
      notes.push(...found.notes);
    }
  }
  const kept = [...candidates.filter((one) => !isVolume(one)), ...volumes.kept];
  const sources = dropDuplicates(kept, problems).map((source) =>
    source.kind === 'volume' ? withWriters(source, input) : source,
  );
  if (input.configFiles) {
    const config = planConfig(
      input,
      sources.filter((source) => source.kind === 'volume'),
    );
    sources.push(config.source);
    notes.push(...config.notes);
  }
  notes.push(...skippedCopies(input));
  problems.push(...nothingLabelled(services, input), ...strayCredentials(sources, input.settings));
  const isUnread = inScope.some(({ unreadLabels }) => unreadLabels !== undefined);
  return {
    project: input.project,
    ...(isUnread ? { unreadLabels: true } : {}),
    sources: withFileMounts(sources, input).sort((a, b) => (a.name < b.name ? -1 : 1)),
    problems: ordered(problems),
    ...(hooks.length > 0 ? { hooks } : {}),
    ...(notes.length > 0 ? { notes: orderedNotes(notes) } : {}),
    ...(Object.keys(volumes.shared).length > 0 ? { shared: volumes.shared } : {}),
    ...(Object.keys(stopped).length > 0 ? { stopped } : {}),
  };
}

function isVolume(candidate: Candidate): candidate is Candidate & { source: VolumeSource } {
  return candidate.source.kind === 'volume';
}

function planService(service: Service, slug: string, input: PlanInput): ServicePlan {
  const { subject } = service;
  const usable: Asked[] = [];
  const problems: Problem[] = unreadLabels(service);
  for (const asked of service.containers) {
    problems.push(
      ...asked.mistakes.map((mistake) =>
        labelProblem(subject, mistake, { container: asked.container, asked: asks(asked) }),
      ),
    );
    if (!asked.mistakes.some(blocksAll)) usable.push(asked);
  }
  const postgres = planPostgres(usable, slug, input);
  const volumes = planVolumes(usable, slug, input, (asked) => baseOf(asked, input));
  problems.push(...[...postgres.problems, ...volumes.problems].map((problem) => ({ ...problem, subject })));
  const doubt = keepDoubt(service);
  return {
    service,
    candidates: [...postgres.sources, ...volumes.sources].map((source) => ({
      source: { ...source, ...doubt },
      subject,
    })),
    problems,
    missing: volumes.missing,
    notes: volumes.notes.map((message) => ({ subject, message })),
    hooks: usable
      .filter(hasOnlyHooks)
      .slice(0, 1)
      .map((asked) => hooksOf(asked, input.containers)),
    stopped: postgres.stopped,
  };
}

/**
 * Splits labels that select nothing into problems and notes. A label on a YAML anchor reaches every service that uses
 * the anchor. It is no mistake if another service of the project has the same label and a volume for it.
 */
function missingOf(
  { service, missing }: ServicePlan,
  all: readonly ServicePlan[],
): { problems: Problem[]; notes: Note[] } {
  const { project, subject } = service;
  const isShared = (label: string) =>
    all.some(
      (other) =>
        other.service !== service &&
        other.service.project === project &&
        other.missing.every((one) => one.label !== label) &&
        other.candidates.some(isVolume) &&
        other.service.containers.some(({ values }) => JSON.stringify(values['lifeboat.volumes']) === label),
    );
  const [shared, own] = [
    missing.filter(({ label }) => isShared(label)),
    missing.filter(({ label }) => !isShared(label)),
  ];
  return {
    problems: own.map(({ label: _, ...problem }) => ({ ...problem, subject })),
    notes: shared.map(({ message }) => ({
      subject,
      message: `${message}; another service with the same label has it`,
    })),
  };
}

/** Returns why the keep policy of a service is in doubt. A mistake in one container applies to all of its sources. */
function keepDoubt({ containers }: Service): Pick<PlannedSource, 'keepInDoubt'> {
  if (containers.some(({ container }) => container.unreadLabels !== undefined)) {
    return { keepInDoubt: 'the labels of its Swarm service cannot be read' };
  }
  const about = containers.flatMap(({ container, mistakes }) =>
    mistakes.filter((mistake) => isAboutKeep(mistake, container.labels[mistake.key])),
  );
  const [first] = about;
  return first ? { keepInDoubt: `the label ${visible(first.key.slice(0, 80))} has a mistake` } : {};
}

interface Part {
  sources: PlannedSource[];
  problems: Omit<Problem, 'subject'>[];
  stopped?: Plan['stopped'];
}

function planPostgres(containers: readonly Asked[], slug: string, input: PlanInput): Part {
  const wanted = containers.filter(({ values }) => values['lifeboat.postgres']);
  const [first] = wanted;
  if (first === undefined) return { sources: [], problems: [] };
  const { container, values } = first;
  if (!container.running) {
    const stopped = stoppedOf(container, input.project);
    const problem = { severity: 'error', ...stoppedDatabase(stopped) } as const;
    return { sources: [], problems: [problem], stopped: { [`${slug}.postgres`]: stopped } };
  }
  if (wanted.length > 1) {
    const names = wanted.map((each) => each.container.name).join(' and ');
    const message = `${names} are databases of one service, so Lifeboat cannot know which one to back up`;
    const hint = 'run the service with one container';
    return { sources: [], problems: [{ severity: 'error', code: 'SOURCE_DUPLICATE', message, hint }] };
  }
  const base = baseOf(first, input);
  const source = postgresSource({ ...base, name: `${slug}.postgres` }, container, values, input.settings);
  const sources = values['lifeboat.postgres.pitr'] ? [source, baseSource(source, values, input.settings)] : [source];
  return { sources, problems: [] };
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

/** Sorts problems, errors first, and removes duplicates: the containers of a scaled service have the same ones. */
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

function orderedNotes(notes: readonly Note[]): Note[] {
  const all = notes.map(({ subject, message }) => ({ subject: visible(subject), message: visible(message) }));
  const unique = new Map(all.map((note) => [`${note.subject}\0${note.message}`, note]));
  return [...unique].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, note]) => note);
}
