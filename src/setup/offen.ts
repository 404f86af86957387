import { parseCommand } from '../plan/command.ts';
import { contains } from '../plan/host-paths.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { identityOf } from '../plan/mounts.ts';
import { addLabel, addSchedule, emptyTranslation, looksLikeCluster, nameOfMount, type Translation } from './foreign.ts';
import { objectStore } from './object-store.ts';

/**
 * Translates a set-up of offen/docker-volume-backup (its documentation, "Configuration reference" and "How tos"). The
 * volumes that its container mounts below `/backup` become labels of the services that write to them.
 */
export function translateOffen(containers: readonly ContainerFacts[]): Translation {
  const translation = emptyTranslation();
  const agents = containers.filter(isOffen);
  const others = containers.filter((one) => !isOffen(one));
  if (agents.length === 0) {
    translation.notes.push('No container of offen/docker-volume-backup was found, so only labels are translated.');
  }
  for (const agent of agents) {
    for (const mount of agent.mounts.filter(({ destination }) => contains(sourcesOf(agent), destination))) {
      translateMount(translation, mount, others);
    }
    translateSettings(translation, agent.env);
  }
  const values = stopValues(agents);
  for (const container of others) translateLabels(translation, container, values);
  if (agents.length > 1) {
    translation.notes.push('Several containers make backups. The settings of the last one are shown.');
  }
  return translation;
}

const PREFIX = 'docker-volume-backup.';
/** Variables that no other program has. */
const OWN = /^BACKUP_(CRON_EXPRESSION|FILENAME|RETENTION_DAYS|SOURCES|ARCHIVE|COMPRESSION|STOP_|PRUNING_)/;

function sourcesOf({ env }: ContainerFacts): string {
  return env.BACKUP_SOURCES || '/backup';
}

function isOffen(container: ContainerFacts): boolean {
  const { env, command = [], mounts } = container;
  const reads = mounts.some(({ destination }) => contains(sourcesOf(container), destination));
  return (
    reads &&
    (command[0] === '/usr/bin/backup' || command[0] === 'backup' || Object.keys(env).some((name) => OWN.test(name)))
  );
}

function translateMount(translation: Translation, mount: Mount, others: readonly ContainerFacts[]): void {
  const users = others.filter(({ mounts }) => mounts.some((one) => identityOf(one) === identityOf(mount)));
  const isWriter = ({ mounts }: ContainerFacts) =>
    mounts.some((one) => one.writable && identityOf(one) === identityOf(mount));
  const user = users.find(isWriter) ?? users[0];
  const own = user?.mounts.find((one) => identityOf(one) === identityOf(mount));
  if (!user || !own) {
    translation.notes.push(
      `No other service mounts ${mount.name ?? mount.source}: mount it where Lifeboat reads it, below /config.`,
    );
    return;
  }
  if (looksLikeCluster(own, user)) addLabel(translation, user.service, 'lifeboat.postgres', 'true');
  else addLabel(translation, user.service, 'lifeboat.volumes', nameOfMount(own, user.project));
}

/** The labels that stop a container, each with the variables that say with which value. */
const STOPS = {
  'stop-during-backup': ['BACKUP_STOP_DURING_BACKUP_LABEL', 'BACKUP_STOP_CONTAINER_LABEL'],
  'stop-container-during-backup': ['BACKUP_STOP_CONTAINER_LABEL', 'BACKUP_STOP_DURING_BACKUP_LABEL'],
  'stop-during-backup-no-restart': ['BACKUP_STOP_DURING_BACKUP_NO_RESTART_LABEL'],
} as const;

type StopValues = Record<keyof typeof STOPS, string[]>;

/** Returns the values with which such labels count. Several containers may each stop other services. */
function stopValues(agents: readonly ContainerFacts[]): StopValues {
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

/** The steps of a run that have no counterpart here. */
const STEPS = ['process', 'copy', 'prune'];

function translateLabels(translation: Translation, container: ContainerFacts, values: StopValues): void {
  const { labels, service } = container;
  const get = (name: string) => labels[`${PREFIX}${name}`];
  const own = translation.labels.get(service);
  const stops = Object.entries(values).some(([name, wanted]) => wanted.includes(get(name) ?? ''));
  if (stops && own?.['lifeboat.postgres']) {
    translation.notes.push(`${service} does not have to stop: its databases are dumped while the server runs.`);
  } else if (stops && own) addLabel(translation, service, 'lifeboat.stop', 'true');
  else if (stops) {
    translation.notes.push(
      `${service} has no volume that is backed up. If it writes to one of another service, use lifeboat.exec.pre there.`,
    );
  }
  const hooks = { 'archive-pre': 'pre', 'exec-pre': 'pre', 'archive-post': 'post', 'exec-post': 'post' } as const;
  for (const [name, hook] of Object.entries(hooks)) {
    const command = get(name);
    if (command !== undefined) translateCommand(translation, container, { name, hook, command });
  }
  for (const step of STEPS.flatMap((one) => [`${one}-pre`, `${one}-post`])) {
    if (get(step) !== undefined) translation.notes.push(`${service}: ${PREFIX}${step} has no counterpart.`);
  }
}

function translateCommand(
  translation: Translation,
  { service, labels }: ContainerFacts,
  { name, hook, command }: { name: string; hook: 'pre' | 'post'; command: string },
): void {
  const { notes } = translation;
  if (/\bpg_dump(all)?\b/.test(command)) {
    notes.push(`${service}: ${PREFIX}${name} dumps a database, which lifeboat.postgres does by itself.`);
    return;
  }
  if (!('value' in parseCommand(command))) {
    notes.push(`${service}: the command of ${PREFIX}${name} has a form that lifeboat.exec.${hook} does not take.`);
    return;
  }
  addLabel(translation, service, `lifeboat.exec.${hook}`, command);
  const user = labels[`${PREFIX}${name}.user`];
  if (user !== undefined) addLabel(translation, service, 'lifeboat.exec.user', user);
}

function translateSettings(translation: Translation, env: Readonly<Record<string, string>>): void {
  const { settings, notes } = translation;
  addSchedule(translation, 'BACKUP_CRON_EXPRESSION', env.BACKUP_CRON_EXPRESSION || '@daily');
  const days = Number(env.BACKUP_RETENTION_DAYS ?? -1);
  if (Number.isInteger(days) && days > 0) settings.LIFEBOAT_KEEP = `${days}d`;
  else notes.push('Nothing was ever removed (BACKUP_RETENTION_DAYS). LIFEBOAT_KEEP decides what Lifeboat keeps.');
  if (env.AWS_S3_BUCKET_NAME) {
    settings.LIFEBOAT_DESTINATION = objectStore({
      bucket: env.AWS_S3_BUCKET_NAME,
      ...(env.AWS_S3_PATH ? { prefix: env.AWS_S3_PATH } : {}),
      ...(env.AWS_ENDPOINT ? { endpoint: `${env.AWS_ENDPOINT_PROTO || 'https'}://${env.AWS_ENDPOINT}` } : {}),
    });
    notes.push('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY keep their names.');
  }
  const keys = (env.AGE_PUBLIC_KEYS ?? '').split(',').map((key) => key.trim());
  const usable = keys.filter((key) => key.startsWith('age1'));
  if (usable.length > 0) settings.LIFEBOAT_AGE_RECIPIENTS = usable.join(',');
  if (keys.some((key) => key.startsWith('ssh-')))
    notes.push('SSH keys cannot encrypt here: make a key with age-keygen.');
  if (env.GPG_PASSPHRASE) notes.push('GPG_PASSPHRASE becomes LIFEBOAT_GPG_PASSPHRASE.');
  if (env.GPG_PUBLIC_KEY_RING) notes.push('GPG_PUBLIC_KEY_RING becomes LIFEBOAT_GPG_RECIPIENTS.');
  if (env.AGE_PASSPHRASE)
    notes.push('age cannot take a passphrase unattended: use LIFEBOAT_AGE_RECIPIENTS, or LIFEBOAT_GPG_PASSPHRASE.');
  if (env.NOTIFICATION_URLS) {
    notes.push(...channelNotes(env.NOTIFICATION_URLS));
    settings.LIFEBOAT_NOTIFY = env.NOTIFICATION_LEVEL === 'info' ? 'always' : 'failure';
  }
  if (env.BACKUP_EXCLUDE_REGEXP) notes.push('BACKUP_EXCLUDE_REGEXP becomes globs in lifeboat.volumes.exclude.');
  const elsewhere = ['WEBDAV_URL', 'SSH_HOST_NAME', 'AZURE_STORAGE_CONTAINER_NAME', 'DROPBOX_REMOTE_PATH'];
  for (const name of elsewhere.filter((one) => env[one])) {
    notes.push(`${name} has no counterpart: Lifeboat writes to directories and S3 buckets.`);
  }
}

/** The settings that replace a notification URL, by the scheme of the URL. */
const CHANNELS: ReadonlyMap<string, string> = new Map([
  ['slack', 'LIFEBOAT_SLACK_WEBHOOK_URL'],
  ['discord', 'LIFEBOAT_DISCORD_WEBHOOK_URL'],
  ['smtp', 'LIFEBOAT_SMTP_URL and LIFEBOAT_EMAIL_TO'],
  ['ntfy', 'LIFEBOAT_NTFY_URL'],
  ['telegram', 'LIFEBOAT_TELEGRAM_TOKEN and LIFEBOAT_TELEGRAM_CHAT'],
  ['pagerduty', 'LIFEBOAT_PAGERDUTY_ROUTING_KEY'],
  ['generic', 'LIFEBOAT_WEBHOOK_URL'],
]);

/** Returns one note for each service that NOTIFICATION_URLS names. The URLs hold secrets, so no note repeats them. */
function channelNotes(urls: string): string[] {
  const schemes = [...urls.matchAll(/(?:^|,)\s*([a-z]+)(?:\+https?)?:\/\//g)].map(([, scheme = '']) => scheme);
  return [...new Set(schemes)].map((scheme) => {
    const setting = CHANNELS.get(scheme);
    if (setting !== undefined) return `NOTIFICATION_URLS: ${scheme}:// becomes ${setting}.`;
    return `NOTIFICATION_URLS: ${scheme}:// has no counterpart. healthchecks.io (LIFEBOAT_HEALTHCHECKS_URL) passes its alarms on to many services.`;
  });
}
