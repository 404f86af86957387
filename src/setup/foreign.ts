import path from 'node:path';
import { contains } from '../plan/host-paths.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { labelOf } from '../plan/mounts.ts';
import { dataDirectoriesOf } from '../plan/postgres.ts';
import { parseSchedule } from '../plan/values/schedule.ts';

/** The set-up of another backup program, as labels and settings of Lifeboat. */
export interface Translation {
  /** by service */
  labels: Map<string, Record<string, string>>;
  settings: Record<string, string>;
  /** names of variables that hold the values of secret settings, by setting: no translation has a secret itself */
  secrets: Record<string, string>;
  /** what has no translation, or needs a decision */
  notes: string[];
}

export function emptyTranslation(): Translation {
  return { labels: new Map(), settings: {}, secrets: {}, notes: [] };
}

/** Adds a label to a service. Names of volumes add up. */
export function addLabel({ labels }: Translation, service: string, key: string, value: string): void {
  const own = labels.get(service) ?? {};
  const before = own[key];
  const isList = key === 'lifeboat.volumes' && before !== undefined && before !== 'true' && value !== 'true';
  const all = isList ? [...new Set([...before.split(','), value])].join(',') : value;
  labels.set(service, { ...own, [key]: all });
}

/** Returns whether a label or a variable is on, as programs written in Python and Go read it. */
export function isOn(value: string | undefined): boolean {
  return /^(true|1|yes|on|t|y)$/i.test(value?.trim() ?? '');
}

/** Since Postgres 18, the official image has its volume at the parent of the data directory. */
const PARENT = '/var/lib/postgresql';

/** Returns whether a mount of a Postgres server holds its data directory, or is inside it. */
export function isClusterOf({ destination }: Mount, container: ContainerFacts): boolean {
  return [...dataDirectoriesOf(container), PARENT].some(
    (directory) => contains(destination, directory) || contains(directory, destination),
  );
}

/**
 * Returns whether a mount shows that a container of an unknown image is a Postgres server: it is at a usual data
 * directory, inside it, or its direct parent. A mount further up, such as `/home`, holds anything. A data directory
 * that the container itself names can be anywhere below a mount.
 */
export function looksLikeCluster({ destination, writable }: Mount, container: ContainerFacts): boolean {
  if (!writable || destination === '/') return false;
  const usual = dataDirectoriesOf({ env: {} });
  const { env, command = [] } = container;
  const isCommand = command.some((word) => /(^|\/)postgres$/.test(word));
  const named = dataDirectoriesOf({ env, ...(isCommand ? { command } : {}) }).filter((one) => !usual.includes(one));
  return (
    contains(PARENT, destination) ||
    usual.some((directory) => contains(directory, destination) || destination === path.posix.dirname(directory)) ||
    named.some((directory) => contains(directory, destination) || contains(destination, directory))
  );
}

/** The name of a mount in `lifeboat.volumes`. */
export function nameOfMount(mount: Mount, project: string): string {
  return mount.key ?? labelOf(mount, project);
}

/** Adds the schedule of another program, if it is one of five fields. Its sixth field, if any, stands for seconds. */
export function addSchedule({ settings, notes }: Translation, name: string, value: string): void {
  const fields = value.trim().split(/\s+/);
  const five = fields.length === 6 ? fields.slice(1) : fields;
  const text = five.join(' ').replaceAll('?', '*');
  if ('value' in parseSchedule(text)) settings.LIFEBOAT_SCHEDULE = text;
  else notes.push(`${name} has a form that LIFEBOAT_SCHEDULE does not have: translate it by hand`);
}

/**
 * Returns the translation as a Compose file that adds to the present one. Notes become comments.
 *
 * @param service the service of Lifeboat
 */
export function renderTranslation({ labels, settings, secrets, notes }: Translation, service = 'lifeboat'): string {
  const quoted = (value: string) => JSON.stringify(value.replaceAll('$', '$$$$'));
  const services = [...labels].map(([name, own]) => [
    `  ${plainKey(name)}:`,
    '    labels:',
    ...Object.entries(own).map(([key, value]) => `      ${key}: ${quoted(value)}`),
  ]);
  const agent = [
    ...Object.entries(settings).map(([name, value]) => `      ${name}: ${quoted(value)}`),
    // Compose refuses to start without a value, so nobody stores unencrypted by mistake.
    ...Object.entries(secrets).map(([name, variable]) => `      ${name}: \${${variable}:?}`),
  ];
  const all = [
    ...services.flat(),
    ...(agent.length > 0 ? [`  ${plainKey(service)}:`, '    environment:', ...agent] : []),
  ];
  return [
    ...notes.map((note) => `# ${note.replace(/\s+/g, ' ')}`),
    ...(Object.keys(secrets).length > 0
      ? [`# Secrets are not shown. Write the values of the variables in \${…} into the file .env of your project.`]
      : []),
    ...(all.length > 0 ? ['services:', ...all] : []),
  ].join('\n');
}

function plainKey(key: string): string {
  return /^[A-Za-z][\w.-]*$/.test(key) ? key : JSON.stringify(key);
}
