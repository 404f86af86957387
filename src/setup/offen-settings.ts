import type { ContainerFacts } from '../plan/model.ts';
import { addSchedule, type Translation } from './foreign.ts';
import { objectStore } from './object-store.ts';

/** Translates the settings of a container of docker-volume-backup. */
export function translateSettings(translation: Translation, { env }: ContainerFacts): void {
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
