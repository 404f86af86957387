import { parseCommand } from '../plan/command.ts';
import type { ContainerFacts } from '../plan/model.ts';
import { addLabel, type Translation } from './foreign.ts';
import { type Dump, isCleanup, type OffenLabel, offenLabels, PREFIX } from './offen-dumps.ts';

/** The labels that stop a container, each with the variables that say with which value. */
const STOPS = {
  'stop-during-backup': ['BACKUP_STOP_DURING_BACKUP_LABEL', 'BACKUP_STOP_CONTAINER_LABEL'],
  'stop-container-during-backup': ['BACKUP_STOP_CONTAINER_LABEL', 'BACKUP_STOP_DURING_BACKUP_LABEL'],
  'stop-during-backup-no-restart': ['BACKUP_STOP_DURING_BACKUP_NO_RESTART_LABEL'],
} as const;

type StopValues = Record<keyof typeof STOPS, string[]>;

/** Returns the values with which such labels count. Several containers may each stop other services. */
export function stopValues(agents: readonly ContainerFacts[]): StopValues {
  const valueIn = ({ env }: Pick<ContainerFacts, 'env'>, variables: readonly string[]) =>
    variables.map((name) => env[name]).find((value) => value) ?? 'true';
  const all = agents.length > 0 ? agents : [{ env: {} }];
  const of = (label: keyof typeof STOPS) => all.map((agent) => valueIn(agent, STOPS[label]));
  return {
    'stop-during-backup': of('stop-during-backup'),
    'stop-container-during-backup': of('stop-container-during-backup'),
    'stop-during-backup-no-restart': of('stop-during-backup-no-restart'),
  };
}

/** Returns whether commands in the labels of a container run at all: EXEC_LABEL selects services. */
export function isRun({ labels }: ContainerFacts, agents: readonly ContainerFacts[]): boolean {
  const own = labels[`${PREFIX}exec-label`];
  return agents.length === 0 || agents.some(({ env }) => !env.EXEC_LABEL || env.EXEC_LABEL === own);
}

/** The steps of a run that have no counterpart here. */
const STEPS = ['process', 'copy', 'prune'];

/** The facts about the whole set-up that decide on the labels of a service. */
interface Context {
  values: StopValues;
  dumps: readonly Dump[];
  agents: readonly ContainerFacts[];
}

/** Translates the labels of a service that stop it and that run commands in it. */
export function translateLabels(translation: Translation, container: ContainerFacts, context: Context): void {
  const { values, dumps, agents } = context;
  const { labels, service } = container;
  const get = (name: string) => labels[`${PREFIX}${name}`];
  const own = translation.labels.get(service);
  const stops = Object.entries(values).some(([name, wanted]) => wanted.includes(get(name) ?? ''));
  const noRestart = values['stop-during-backup-no-restart'].includes(get('stop-during-backup-no-restart') ?? '');
  if (noRestart && own && !own['lifeboat.postgres']) {
    translation.notes.push(
      `${service}: ${PREFIX}stop-during-backup-no-restart leaves it stopped. lifeboat.stop starts it again after the backup.`,
    );
  }
  if (stops && own?.['lifeboat.postgres']) {
    translation.notes.push(`${service} does not have to stop: its databases are dumped while the server runs.`);
  } else if (stops && own) addLabel(translation, service, 'lifeboat.stop', 'true');
  else if (stops) {
    translation.notes.push(
      `${service} has no volume that is backed up. If it writes to one of another service, use lifeboat.exec.pre there.`,
    );
  }
  const commands = offenLabels(container);
  if (commands.length > 0 && !isRun(container, agents)) {
    translation.notes.push(
      `${service}: its commands never run, because EXEC_LABEL is set and ${PREFIX}exec-label does not have that value. They are left out.`,
    );
    return;
  }
  for (const label of commands) {
    if (dumps.some((dump) => dump.container.id === container.id && dump.name === label.name)) continue;
    if (label.hook === 'post' && isCleanup(label, container, dumps)) {
      translation.notes.push(`${service}: ${PREFIX}${label.name} only removes the dump, so it is left out.`);
    } else translateCommand(translation, container, label);
  }
  for (const step of STEPS.flatMap((one) => [`${one}-pre`, `${one}-post`])) {
    if (get(step) !== undefined) translation.notes.push(`${service}: ${PREFIX}${step} has no counterpart.`);
  }
}

/** Translates a command that dumps databases: the server has `lifeboat.postgres` instead. */
export function translateDump(translation: Translation, { container, name, server }: Dump): void {
  const what = `${container.service}: ${PREFIX}${name} dumps a database`;
  if (server === undefined) {
    translation.notes.push(`${what}. Give the service of its server lifeboat.postgres: "true" instead.`);
    return;
  }
  addLabel(translation, server, 'lifeboat.postgres', 'true');
  const where = server === container.service ? '' : ` of ${server}`;
  translation.notes.push(
    `${what}, which lifeboat.postgres${where} does by itself. If it does more than that, use lifeboat.exec.pre for the rest.`,
  );
}

function translateCommand(
  translation: Translation,
  { service, labels }: ContainerFacts,
  { name, hook, command }: OffenLabel,
): void {
  const { notes } = translation;
  if (!('value' in parseCommand(command))) {
    notes.push(`${service}: the command of ${PREFIX}${name} has a form that lifeboat.exec.${hook} does not take.`);
    return;
  }
  addLabel(translation, service, `lifeboat.exec.${hook}`, command);
  const user = labels[`${PREFIX}${name}.user`];
  if (user !== undefined) addLabel(translation, service, 'lifeboat.exec.user', user);
}
