import { LABELS, ownLabels } from './labels.ts';
import type { ContainerFacts, Note, PlannedSource, Problem } from './model.ts';
import { parseKeep } from './retention.ts';
import { asks, isInScope, type PlanInput, type Service } from './services.ts';
import type { Settings } from './settings.ts';
import { type Mistake, quote } from './values/fields.ts';
import { didYouMean, suggest } from './values/suggest.ts';

const NOT_BACKED_UP = 'it is not backed up';

const NOTHING_PRUNED = 'no snapshot of it is pruned until that is corrected';

/**
 * The consequence of a mistake in each label. If the default is safe, Lifeboat uses it and backs up too much rather
 * than nothing. No default is safe for {@link KEEP_LABELS}: one that keeps less would
 * remove history at once.
 */
const CONSEQUENCES: Readonly<Partial<Record<keyof typeof LABELS, string>>> = {
  'lifeboat.postgres': 'its databases are not backed up',
  'lifeboat.postgres.databases': 'all databases are backed up',
  'lifeboat.postgres.exclude-databases': 'no database is excluded',
  'lifeboat.postgres.exclude-table-data': 'all tables are backed up',
  'lifeboat.volumes': 'its volumes are not backed up',
  'lifeboat.volumes.include': 'all files are backed up',
  'lifeboat.volumes.exclude': 'all files are backed up',
  'lifeboat.stop': 'its volumes are not backed up',
  'lifeboat.schedule': 'LIFEBOAT_SCHEDULE is used',
  'lifeboat.rpo': 'LIFEBOAT_RPO is used',
  'lifeboat.rto': 'LIFEBOAT_RTO is used',
  'lifeboat.keep': NOTHING_PRUNED,
  'lifeboat.name': NOT_BACKED_UP,
  'lifeboat.exec.pre': NOT_BACKED_UP,
  'lifeboat.exec.post': NOT_BACKED_UP,
  'lifeboat.exec.user': NOT_BACKED_UP,
  'lifeboat.exec.restored': 'it does not run after a restore',
  'lifeboat.health': 'no restore asks for it',
  'lifeboat.drill.health': 'no drill runs it',
};

/** Returns true for a mistake that prevents every backup of the container. */
export function blocksAll({ key, kind }: Mistake): boolean {
  return kind === 'invalid' && CONSEQUENCES[key as keyof typeof LABELS] === NOT_BACKED_UP;
}

interface Labelled {
  container: ContainerFacts;
  asked: boolean;
}

/** The labels that decide what retention removes. */
const KEEP_LABELS: readonly string[] = ['lifeboat.keep', 'lifeboat.postgres.pitr.window'];

/** Returns true for a mistake that may be meant as a keep policy, by its name or by its value. */
export function isAboutKeep({ key, kind }: Mistake, value: string | undefined): boolean {
  if (kind === 'unused') return false;
  if (kind === 'invalid') return KEEP_LABELS.includes(key);
  const meant = suggest(key, Object.keys(LABELS));
  const isNamedSo =
    /keep|retain|retention|pitr.*window/i.test(key) || (meant !== undefined && KEEP_LABELS.includes(meant));
  return isNamedSo || (value !== undefined && 'value' in parseKeep(value));
}

/**
 * Turns a mistake in a label into a problem. `asked`: the container asks for a backup, so the mistake has a
 * consequence.
 */
export function labelProblem(subject: string, mistake: Mistake, { container, asked }: Labelled): Problem {
  const { key, kind, message, hint } = mistake;
  const known = kind === 'invalid' ? CONSEQUENCES[key as keyof typeof LABELS] : undefined;
  const found = isAboutKeep(mistake, container.labels[key]) ? NOTHING_PRUNED : known;
  const consequence = asked ? found : undefined;
  return {
    severity: 'error',
    code: kind === 'unknown' ? 'LABEL_UNKNOWN' : 'LABEL_INVALID',
    subject,
    message: consequence === undefined ? message : `${message}, so ${consequence}`,
    ...(hint === undefined ? {} : { hint }),
  };
}

/** Reports that a Swarm does not show the labels of a service now, for example because it has no leader. */
export function unreadLabels({ subject, containers }: Service): Problem[] {
  const found = containers.find(({ container }) => container.unreadLabels !== undefined);
  if (!found) return [];
  const message = `the labels of its Swarm service cannot be read, so none of its snapshots is pruned`;
  return [{ severity: 'error', code: 'ENGINE_REFUSED', subject, message, cause: found.container.unreadLabels ?? '' }];
}

/**
 * Reports that nothing is labelled, in all of the scope or in one listed project. A run without sources must not
 * succeed.
 */
export function nothingLabelled(services: readonly Service[], input: PlanInput): Problem[] {
  const { scope } = input.settings;
  const labelled = (project?: string) =>
    services.some((service) => (project === undefined || service.project === project) && service.containers.some(asks));
  const known = new Set(input.containers.map(({ project }) => project).filter((project) => project !== ''));
  if (scope.kind === 'projects') {
    return scope.names
      .filter((name) => !labelled(name))
      .map((name) => ({
        severity: 'error',
        code: 'NOTHING_LABELLED',
        subject: 'LIFEBOAT_SCOPE',
        message: `no container of project ${quote(name)} asks to be backed up`,
        hint: (known.has(name) ? undefined : didYouMean(name, known)) ?? LABEL_HINT,
      }));
  }
  if (labelled()) return [];
  const message =
    scope.kind === 'all'
      ? 'no container asks to be backed up'
      : `no container of project ${input.project} asks to be backed up`;
  const hint = `${LABEL_HINT}${outside(input)}`;
  return [{ severity: 'error', code: 'NOTHING_LABELLED', subject: input.project, message, hint }];
}

/** Names the copies of projects that LIFEBOAT_SCOPE=all leaves out, if something in them has a label. */
export function skippedCopies({ containers, settings: { scope }, copies = [] }: PlanInput): Note[] {
  if (scope.kind !== 'all') return [];
  const asking = containers.filter(({ labels, imageLabels }) => ownLabels(labels, imageLabels).size > 0);
  return copies
    .filter((copy) => asking.some(({ project }) => project === copy))
    .map((copy) => ({
      subject: copy,
      message: 'is a copy that a restore filled, so it is not backed up. To back it up, list it in LIFEBOAT_SCOPE',
    }));
}

const LABEL_HINT = 'set lifeboat.postgres: "true" or lifeboat.volumes: "true" in the labels of a service and start it';

/** Returns a hint about labelled containers outside the scope, or an empty text. */
function outside(input: PlanInput): string {
  const others = input.containers
    .filter((container) => !isInScope(container, input) && ownLabels(container.labels, container.imageLabels).size > 0)
    .map(({ project }) => project || 'no Compose project');
  if (others.length === 0) return '';
  return `; LIFEBOAT_SCOPE leaves out labelled containers of ${[...new Set(others)].sort().join(', ')}`;
}

/** Warns of credentials for unknown sources: a misspelt name leaves the real source with other credentials. */
export function strayCredentials(sources: readonly PlannedSource[], { pgCredentials }: Settings): Problem[] {
  const names = sources.filter(({ kind }) => kind === 'postgres').map(({ name }) => name);
  const stray = pgCredentials.filter(({ source }) => !names.includes(source));
  return stray.map(({ source }) => {
    const hint = didYouMean(source, names) ?? 'use a name from the output of `lifeboat plan`';
    const message = `LIFEBOAT_PGCREDENTIALS names ${source}, but there is no such Postgres source now`;
    return { severity: 'warning', code: 'SETTING_INVALID', subject: 'LIFEBOAT_PGCREDENTIALS', message, hint };
  });
}
