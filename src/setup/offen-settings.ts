import { contains } from '../plan/host-paths.ts';
import type { ContainerFacts } from '../plan/model.ts';
import { parseZone } from '../plan/values/zone.ts';
import { addSchedule, isOn, type Translation } from './foreign.ts';
import { addObjectStore } from './object-store.ts';
import { translateChannels } from './offen-channels.ts';

type Env = Readonly<Record<string, string>>;

/** Translates the settings of a container of docker-volume-backup. */
export function translateSettings(translation: Translation, agent: ContainerFacts): void {
  const { env } = agent;
  const { settings, notes } = translation;
  addSchedule(translation, 'BACKUP_CRON_EXPRESSION', env.BACKUP_CRON_EXPRESSION || '@daily');
  translateZone(translation, agent);
  if (agent.mounts.some(({ destination }) => contains(CONFIGURATIONS, destination))) {
    notes.push(
      `The files in ${CONFIGURATIONS} are not read. For other schedules and retention, use lifeboat.schedule and lifeboat.keep on services.`,
    );
  }
  const days = Number(env.BACKUP_RETENTION_DAYS ?? -1);
  if (Number.isInteger(days) && days > 0) settings.LIFEBOAT_KEEP = `${days}d`;
  else notes.push('Nothing was ever removed (BACKUP_RETENTION_DAYS). LIFEBOAT_KEEP decides what Lifeboat keeps.');
  translatePlaces(translation, agent);
  translateEncryption(translation, env);
  translateChannels(translation, env);
  if (env.BACKUP_EXCLUDE_REGEXP) notes.push('BACKUP_EXCLUDE_REGEXP becomes globs in lifeboat.volumes.exclude.');
  translateFiles(translation, env);
}

/** The directory with one file for each of several schedules. */
const CONFIGURATIONS = '/etc/dockervolumebackup/conf.d';

/** Schedules of both programs follow the time zone of their container. */
function translateZone({ settings, notes }: Translation, { env, mounts }: ContainerFacts): void {
  if (env.TZ && 'value' in parseZone(env.TZ)) settings.TZ = env.TZ;
  else if (env.TZ) notes.push('TZ is no name of a time zone that Lifeboat knows: set one, such as Europe/Berlin.');
  else if (mounts.some(({ destination }) => /^\/etc\/(localtime|timezone)$/.test(destination))) {
    notes.push(
      '/etc/localtime sets the time zone of the schedule. Lifeboat needs its name: set TZ, such as Europe/Berlin. The default is UTC.',
    );
  }
}

/** Where backups go: with a local archive and a bucket, the bucket has a copy. */
function translatePlaces(translation: Translation, { env, mounts }: ContainerFacts): void {
  const { notes } = translation;
  const archive = mounts.find(({ destination }) => destination === (env.BACKUP_ARCHIVE || '/archive'));
  if (archive) {
    notes.push(`${archive.destination} becomes /backups: mount a directory there that holds nothing else.`);
  }
  if (env.AWS_S3_BUCKET_NAME) {
    const store = {
      bucket: env.AWS_S3_BUCKET_NAME,
      ...(env.AWS_S3_PATH ? { prefix: env.AWS_S3_PATH } : {}),
      ...(env.AWS_ENDPOINT ? { endpoint: `${env.AWS_ENDPOINT_PROTO || 'https'}://${env.AWS_ENDPOINT}` } : {}),
      region: env.AWS_REGION,
    };
    addObjectStore(translation, store, archive ? 'LIFEBOAT_COPY' : 'LIFEBOAT_DESTINATION');
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY']) addSecret(translation, env, name);
  }
  if (env.AWS_STORAGE_CLASS) notes.push('AWS_STORAGE_CLASS becomes the option storage-class of the location.');
  if (isOn(env.AWS_ENDPOINT_INSECURE) || env.AWS_ENDPOINT_CA_CERT) {
    notes.push(
      'AWS_ENDPOINT_INSECURE, AWS_ENDPOINT_CA_CERT: Lifeboat always checks certificates. Mount that of your authority, and name the file in NODE_EXTRA_CA_CERTS.',
    );
  }
  if (env.AWS_IAM_ROLE_ENDPOINT) {
    notes.push('AWS_IAM_ROLE_ENDPOINT has no counterpart: without keys, Lifeboat uses the role of the machine.');
  }
  const isElsewhere = /^(WEBDAV_URL|SSH_HOST_NAME|AZURE_STORAGE_CONTAINER_NAME|DROPBOX_REMOTE_PATH|GOOGLE_DRIVE_\w+)$/;
  for (const name of Object.keys(env).filter((one) => isElsewhere.test(one) && env[one])) {
    notes.push(`${name} has no counterpart: Lifeboat writes to directories and S3 buckets.`);
  }
}

function translateEncryption(translation: Translation, env: Env): void {
  const { settings, notes } = translation;
  const keys = (env.AGE_PUBLIC_KEYS ?? '').split(',').map((key) => key.trim());
  const usable = keys.filter((key) => key.startsWith('age1'));
  if (usable.length > 0) settings.LIFEBOAT_AGE_RECIPIENTS = usable.join(',');
  if (keys.some((key) => key.startsWith('ssh-')))
    notes.push('SSH keys cannot encrypt here: make a key with age-keygen.');
  addSecret(translation, env, 'GPG_PASSPHRASE', 'LIFEBOAT_GPG_PASSPHRASE');
  addSecret(translation, env, 'GPG_PUBLIC_KEY_RING', 'LIFEBOAT_GPG_RECIPIENTS');
  if (env.AGE_PASSPHRASE || env.AGE_PASSPHRASE_FILE)
    notes.push('age cannot take a passphrase unattended: use LIFEBOAT_AGE_RECIPIENTS, or LIFEBOAT_GPG_PASSPHRASE.');
}

/** Adds a secret by the name of its variable, or by the path of its file. */
function addSecret({ settings, secrets, notes }: Translation, env: Env, name: string, setting = name): void {
  const file = env[`${name}_FILE`];
  if (env[name]) secrets[setting] = name;
  else if (file) {
    settings[`${setting}_FILE`] = file;
    notes.push(`${name}_FILE: also mount ${file}, or give the secret to the service of Lifeboat.`);
  }
}

/** Names the files that hold other settings, which are not read here. */
function translateFiles({ settings, notes }: Translation, env: Env): void {
  const isOwn = /^(AWS|GPG|AGE|NOTIFICATION|EMAIL|BACKUP|WEBDAV|AZURE|DROPBOX)_\w+_FILE$/;
  const done = [...Object.keys(settings), 'AGE_PASSPHRASE_FILE', 'GPG_PASSPHRASE_FILE', 'GPG_PUBLIC_KEY_RING_FILE'];
  for (const name of Object.keys(env).filter((one) => isOwn.test(one) && env[one] && !done.includes(one))) {
    notes.push(`${name}: the file is not read here. Translate the setting by hand: Lifeboat also takes NAME_FILE.`);
  }
}
