import type { Translation } from './foreign.ts';

/** The settings that replace a notification URL. */
interface Channel {
  settings: readonly string[];
  /** how to make the values */
  how: string;
}

/** The settings for each scheme of a notification URL. */
const CHANNELS: ReadonlyMap<string, Channel> = new Map([
  [
    'slack',
    {
      settings: ['LIFEBOAT_SLACK_WEBHOOK_URL'],
      how: 'slack://hook:A-B-C@webhook becomes https://hooks.slack.com/services/A/B/C',
    },
  ],
  [
    'discord',
    {
      settings: ['LIFEBOAT_DISCORD_WEBHOOK_URL'],
      how: 'discord://TOKEN@ID becomes https://discord.com/api/webhooks/ID/TOKEN',
    },
  ],
  [
    'smtp',
    {
      settings: ['LIFEBOAT_SMTP_URL', 'LIFEBOAT_EMAIL_FROM', 'LIFEBOAT_EMAIL_TO'],
      how: 'the part before /? stays, fromAddress is the sender, and toAddresses are the recipients',
    },
  ],
  ['ntfy', { settings: ['LIFEBOAT_NTFY_URL'], how: 'ntfy://HOST/TOPIC becomes https://HOST/TOPIC' }],
  [
    'telegram',
    {
      settings: ['LIFEBOAT_TELEGRAM_TOKEN', 'LIFEBOAT_TELEGRAM_CHAT'],
      how: 'telegram://TOKEN@telegram?chats=CHAT has both',
    },
  ],
  ['pagerduty', { settings: ['LIFEBOAT_PAGERDUTY_ROUTING_KEY'], how: 'the integration key of the URL' }],
  ['generic', { settings: ['LIFEBOAT_WEBHOOK_URL'], how: 'generic://HOST/PATH becomes https://HOST/PATH' }],
]);

/**
 * Translates where messages go. The URLs hold secrets, so the translation names settings and never repeats a URL.
 */
export function translateChannels(translation: Translation, env: Readonly<Record<string, string>>): void {
  const { settings, notes, secrets } = translation;
  const urls = env.NOTIFICATION_URLS ?? '';
  const schemes = [...urls.matchAll(/(?:^|,)\s*([a-z]+)(?:\+https?)?:\/\//g)].map(([, scheme = '']) => scheme);
  for (const scheme of new Set(schemes)) {
    const channel = CHANNELS.get(scheme);
    if (channel === undefined) {
      notes.push(
        `NOTIFICATION_URLS: ${scheme}:// has no counterpart. healthchecks.io (LIFEBOAT_HEALTHCHECKS_URL) passes its alarms on to many services.`,
      );
      continue;
    }
    notes.push(`NOTIFICATION_URLS: ${scheme}:// becomes ${channel.settings.join(', ')}: ${channel.how}.`);
    for (const name of channel.settings) secrets[name] = name;
  }
  const isMail = Object.keys(env).some((name) => /^EMAIL_(NOTIFICATION|SMTP)_/.test(name) && env[name]);
  if (isMail) {
    notes.push(
      'EMAIL_SMTP_… becomes LIFEBOAT_SMTP_URL: smtp://USER:PASSWORD@HOST:PORT, with special characters as %XX. EMAIL_NOTIFICATION_RECIPIENT becomes LIFEBOAT_EMAIL_TO, and EMAIL_NOTIFICATION_SENDER becomes LIFEBOAT_EMAIL_FROM.',
    );
    for (const name of ['LIFEBOAT_SMTP_URL', 'LIFEBOAT_EMAIL_TO']) secrets[name] = name;
    if (env.EMAIL_NOTIFICATION_SENDER) secrets.LIFEBOAT_EMAIL_FROM = 'LIFEBOAT_EMAIL_FROM';
  }
  if (urls !== '' || isMail) settings.LIFEBOAT_NOTIFY = env.NOTIFICATION_LEVEL === 'info' ? 'always' : 'failure';
}
