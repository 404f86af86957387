import { whyNotMeant } from '../plan/host-paths.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import {
  addLabel,
  addSchedule,
  emptyTranslation,
  isClusterOf,
  isOn,
  looksLikeCluster,
  nameOfMount,
  type Translation,
} from './foreign.ts';
import { isMysqlDirectory } from './images.ts';
import { addObjectStore } from './object-store.ts';

/**
 * Translates a set-up of stack-back, or of restic-compose-backup, which it continues (its documentation,
 * "Configuration").
 */
export function translateStackBack(containers: readonly ContainerFacts[]): Translation {
  const translation = emptyTranslation();
  const agent = containers.find(({ env }) => env.RESTIC_REPOSITORY !== undefined);
  const env = agent?.env ?? {};
  for (const container of containers) if (container !== agent) translateService(translation, container, env);
  if (agent) translateSettings(translation, env);
  else translation.notes.push('No container of stack-back was found, so only labels are translated.');
  return translation;
}

const PREFIXES = ['stack-back.', 'restic-compose-backup.'];

function labelOf({ labels }: ContainerFacts, name: string): string | undefined {
  return PREFIXES.map((prefix) => labels[prefix + name]).find((value) => value !== undefined);
}

function translateService(
  translation: Translation,
  container: ContainerFacts,
  env: Readonly<Record<string, string>>,
): void {
  const { service, mounts } = container;
  const byDefault = isOn(env.AUTO_BACKUP_ALL);
  const asks = (name: string, otherwise: boolean) => {
    const value = labelOf(container, name);
    return value === undefined ? otherwise : isOn(value);
  };
  const isServer = mounts.some((mount) => looksLikeCluster(mount, container));
  const postgres = asks('postgres', byDefault && isServer);
  if (postgres) addLabel(translation, service, 'lifeboat.postgres', 'true');
  // By itself, stack-back dumps servers that it recognises. Here, only the data directory shows one.
  const isMysql = mounts.some(({ destination, writable }) => writable && isMysqlDirectory(destination));
  const asked = ['mysql', 'mariadb'].find((name) => asks(name, false));
  const refused = ['mysql', 'mariadb'].some((name) => labelOf(container, name) !== undefined);
  const other = asked ?? (byDefault && isMysql && !refused ? 'MySQL and MariaDB' : undefined);
  if (other) {
    translation.notes.push(
      `${service}: Lifeboat makes no dumps of ${other}. It copies the volume while the server is stopped.`,
    );
  }
  const all = isOn(env.INCLUDE_ALL_VOLUMES) || byDefault || other !== undefined;
  if (!asks('volumes', all)) return;
  const wanted = mounts.filter((mount) =>
    isWanted(mount, container, { ...env, ...(postgres ? { postgres: 'true' } : {}) }),
  );
  const nameOf = (mount: Mount) => nameOfMount(mount, container.project);
  const readOnly = wanted.filter(({ writable }) => !writable).map(nameOf);
  if (readOnly.length > 0) {
    translation.notes.push(
      `${service} only reads ${readOnly.join(', ')}. Name them in lifeboat.volumes if no other service writes to them.`,
    );
  }
  const names = wanted.filter(({ writable }) => writable).map(nameOf);
  for (const name of names) addLabel(translation, service, 'lifeboat.volumes', name);
  if (names.length === 0) return;
  if (other || isOn(labelOf(container, 'volumes.stop-during-backup'))) {
    addLabel(translation, service, 'lifeboat.stop', 'true');
  }
}

/** Applies the filters of stack-back, which compare parts of the source of a mount. */
function isWanted(mount: Mount, container: ContainerFacts, env: Readonly<Record<string, string>>): boolean {
  const { type, source, name, destination } = mount;
  if (type !== 'volume' && type !== 'bind') return false;
  if (destination.endsWith('.sock') || whyNotMeant(mount) !== undefined) return false;
  if (type === 'bind' && isOn(env.EXCLUDE_BIND_MOUNTS)) return false;
  if (env.postgres !== undefined && isClusterOf(mount, container)) return false;
  const words = (label: string) =>
    (labelOf(container, label) ?? '').split(',').flatMap((word) => (word.trim() === '' ? [] : [word.trim()]));
  const matches = (word: string) => (name ?? source).includes(word);
  const include = words('volumes.include');
  return (include.length === 0 || include.some(matches)) && !words('volumes.exclude').some(matches);
}

function translateSettings(translation: Translation, env: Readonly<Record<string, string>>): void {
  const { settings, notes } = translation;
  addSchedule(translation, 'CRON_SCHEDULE', env.CRON_SCHEDULE || '0 2 * * *');
  const kept = [
    ...([
      ['DAILY', 'd', '7'],
      ['WEEKLY', 'w', '4'],
      ['MONTHLY', 'm', '12'],
      ['YEARLY', 'y', '3'],
    ] as const),
  ].map(([name, unit, usual]) => {
    const value = env[`RESTIC_KEEP_${name}`] || usual;
    return /^[1-9]\d*$/.test(value) ? `${value}${unit}` : '';
  });
  const keep = kept.filter((one) => one !== '').join(' ');
  if (keep !== '') settings.LIFEBOAT_KEEP = keep;
  const [, endpoint, bucket, prefix] =
    /^s3:(?:https?:\/\/)?([^/]+)\/([^/]+)\/?(.*)$/.exec(env.RESTIC_REPOSITORY ?? '') ?? [];
  const scheme = /^s3:http:/.test(env.RESTIC_REPOSITORY ?? '') ? 'http' : 'https';
  if (endpoint !== undefined && bucket !== undefined) {
    const region = env.AWS_DEFAULT_REGION;
    addObjectStore(translation, { bucket, prefix: prefix ?? '', endpoint: `${scheme}://${endpoint}`, region });
    notes.push('AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY keep their names.');
  } else notes.push('RESTIC_REPOSITORY becomes LIFEBOAT_DESTINATION: a directory or an S3 bucket.');
  if (env.RESTIC_PASSWORD || env.RESTIC_PASSWORD_FILE) {
    notes.push(
      'restic encrypts every repository. For Lifeboat, set LIFEBOAT_AGE_RECIPIENTS or LIFEBOAT_GPG_PASSPHRASE.',
    );
  }
  if (env.DISCORD_WEBHOOK) notes.push('DISCORD_WEBHOOK becomes LIFEBOAT_DISCORD_WEBHOOK_URL.');
  if (env.EMAIL_HOST) {
    notes.push('EMAIL_HOST and its login become LIFEBOAT_SMTP_URL, and EMAIL_SEND_TO becomes LIFEBOAT_EMAIL_TO.');
  }
}
