import { type Fields, type Mistake, mistake, type Values } from '../values/fields.ts';
import { parseSchedule } from '../values/schedule.ts';
import { list, matching, text, url } from '../values/values.ts';
import { parseSmtpUrl } from './mail-server.ts';
import { CHANNELS, type NotifyModes, parseNotify } from './notify-modes.ts';
import { parseSourceChecks, type SourceChecks } from './source-checks.ts';

const ADDRESS = /^[^\s<>@,"]+@[^\s<>@,"]+$/;
const address = matching(ADDRESS, 'write one address: backup@example.org');

/** The settings of messages, a part of the table of all settings. */
export const MESSAGE_SETTINGS = {
  LIFEBOAT_HEALTHCHECKS_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'ping address of a check, such as `https://hc-ping.com/<uuid>`, at healthchecks.io or on a self-hosted server',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_PING_KEY: {
    parse: matching(/^[A-Za-z0-9_-]{4,128}$/, 'write the ping key as the project settings of healthchecks.io show it'),
    form: 'key',
    doc: 'ping key of a healthchecks.io project, instead of `LIFEBOAT_HEALTHCHECKS_URL`. Lifeboat pings the check whose slug is `LIFEBOAT_HEALTHCHECKS_SLUG`. If there is no such check, the first ping creates it',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_SLUG: {
    parse: matching(/^[a-z0-9_-]{1,128}$/, 'write lower-case letters, digits, - and _'),
    form: 'slug',
    doc: 'slug of the check. Default: `<project>-backup`, with the name of the Compose project',
    needs: ['LIFEBOAT_HEALTHCHECKS_PING_KEY'],
  },
  LIFEBOAT_HEALTHCHECKS_BASE: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'ping address of a self-hosted server, for use with `LIFEBOAT_HEALTHCHECKS_PING_KEY`',
    default: 'https://hc-ping.com',
    needs: ['LIFEBOAT_HEALTHCHECKS_PING_KEY'],
  },
  LIFEBOAT_HEALTHCHECKS_SOURCES: {
    parse: parseSourceChecks,
    form: '`all`, or lines `source=URL`',
    doc: '[a check of its own for each source](notifications.md#one-check-for-each-source). `all` needs `LIFEBOAT_HEALTHCHECKS_PING_KEY`',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_WAL_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'ping address of a check that is up while the write-ahead log is received. With a ping key: the check `<project>-wal`',
    secret: true,
  },
  LIFEBOAT_HEALTHCHECKS_DRILL_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'ping address of a check that is up while [drills](drills.md) succeed. With a ping key: the check `<project>-drill`',
    secret: true,
  },
  LIFEBOAT_SLACK_WEBHOOK_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'Slack incoming webhook that receives messages',
    secret: true,
  },
  LIFEBOAT_DISCORD_WEBHOOK_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'Discord webhook that receives messages',
    secret: true,
  },
  LIFEBOAT_SMTP_URL: {
    parse: parseSmtpUrl,
    form: 'URL',
    doc: 'mail server: `smtps://user:password@mail.example.org` or `smtp://…` with [its options](notifications.md#e-mail)',
    secret: true,
    needs: ['LIFEBOAT_EMAIL_TO'],
  },
  LIFEBOAT_EMAIL_TO: {
    parse: list((item) => (ADDRESS.test(item) ? undefined : { problem: 'has an item that is no address' })),
    form: 'addresses, separated by commas',
    doc: 'who receives messages by e-mail',
    needs: ['LIFEBOAT_SMTP_URL'],
  },
  LIFEBOAT_EMAIL_FROM: {
    parse: address,
    form: 'address',
    doc: 'sender of e-mail. Default: the first address in `LIFEBOAT_EMAIL_TO`',
    needs: ['LIFEBOAT_SMTP_URL'],
  },
  LIFEBOAT_PAGERDUTY_ROUTING_KEY: {
    parse: matching(/^[A-Za-z0-9]{32}$/, 'write the integration key of the service, 32 letters and digits'),
    form: 'key',
    doc: 'integration key (Events API v2) of the PagerDuty service that receives incidents',
    secret: true,
  },
  LIFEBOAT_PAGERDUTY_URL: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'address of the PagerDuty Events API. In the EU: `https://events.eu.pagerduty.com`',
    default: 'https://events.pagerduty.com',
    needs: ['LIFEBOAT_PAGERDUTY_ROUTING_KEY'],
  },
  LIFEBOAT_NTFY_URL: {
    parse: url({ path: true }),
    form: 'URL',
    doc: 'address of an ntfy topic that receives messages: `https://ntfy.sh/my-secret-topic`',
    secret: true,
  },
  LIFEBOAT_NTFY_TOKEN: {
    parse: matching(/^[\x21-\x7e]{1,256}$/, 'write the access token, tk_…'),
    form: 'token',
    doc: 'access token of the ntfy server',
    secret: true,
    needs: ['LIFEBOAT_NTFY_URL'],
  },
  LIFEBOAT_TELEGRAM_TOKEN: {
    parse: matching(/^\d{3,20}:[A-Za-z0-9_-]{20,128}$/, 'write the token as BotFather shows it: 123456:ABC…'),
    form: 'token',
    doc: 'token of the Telegram bot that sends messages',
    secret: true,
    needs: ['LIFEBOAT_TELEGRAM_CHAT'],
  },
  LIFEBOAT_TELEGRAM_CHAT: {
    parse: matching(/^(-?\d{1,20}|@\w{4,64})$/, 'write the number of the chat, or @channel'),
    form: 'number, or `@channel`',
    doc: 'chat that receives the messages of the Telegram bot',
    needs: ['LIFEBOAT_TELEGRAM_TOKEN'],
  },
  LIFEBOAT_TELEGRAM_URL: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'address of the Telegram Bot API, for your own server',
    default: 'https://api.telegram.org',
    needs: ['LIFEBOAT_TELEGRAM_TOKEN'],
  },
  LIFEBOAT_WEBHOOK_URL: {
    parse: url({ path: false }),
    form: 'URL',
    doc: 'address that receives each message [as JSON](notifications.md#webhook)',
    secret: true,
  },
  LIFEBOAT_WEBHOOK_SECRET: {
    parse: text,
    form: 'text',
    doc: 'key with which Lifeboat [signs each request](notifications.md#signature) to `LIFEBOAT_WEBHOOK_URL`',
    secret: true,
    needs: ['LIFEBOAT_WEBHOOK_URL'],
  },
  LIFEBOAT_NOTIFY: {
    parse: parseNotify,
    form: '`always`, `failure` or `change`; `channel=…` for one channel',
    doc: `which runs Lifeboat [reports](notifications.md#lifeboat_notify). \`always\`: all runs. \`failure\`: runs that failed or partly failed, and the first good run after them. \`change\`: runs with another result than the run before. \`failure email=change\` sets another value for one channel. Channels: ${CHANNELS.map((name) => `\`${name}\``).join(', ')}`,
    default: 'always',
  },
  LIFEBOAT_DIGEST_SCHEDULE: {
    parse: parseSchedule,
    form: 'schedule',
    doc: 'when to send [a letter](notifications.md#the-letter) about the time since the last one, such as `0 8 * * 1`. If it is not set, none is sent',
  },
} as const satisfies Fields;

/** The settings of messages, validated and typed. A channel without its member is off. */
export interface MessageSettings {
  readonly notify: NotifyModes;
  readonly healthchecks: {
    /** at most one of `url` and `pingKey` is set */
    readonly url?: string | undefined;
    readonly pingKey?: string | undefined;
    /** absent: `<project>-backup` */
    readonly slug?: string | undefined;
    /** base of slug addresses, without a trailing slash */
    readonly base: string;
    readonly sources?: SourceChecks | undefined;
    readonly walUrl?: string | undefined;
    readonly drillUrl?: string | undefined;
  };
  readonly slackUrl?: string | undefined;
  readonly discordUrl?: string | undefined;
  readonly email?: { readonly server: string; readonly from: string; readonly to: readonly string[] } | undefined;
  readonly pagerDuty?: { readonly routingKey: string; readonly base: string } | undefined;
  readonly ntfy?: { readonly url: string; readonly token?: string | undefined } | undefined;
  readonly telegram?: { readonly token: string; readonly chat: string; readonly base: string } | undefined;
  readonly webhook?: { readonly url: string; readonly secret?: string | undefined } | undefined;
  /** five-field cron expression or @alias, valid; absent: no letter is sent */
  readonly letterSchedule?: string | undefined;
}

/** Groups the values by channel. A channel is complete because its settings need each other. */
export function toMessageSettings(values: Values<typeof MESSAGE_SETTINGS>): MessageSettings {
  const { LIFEBOAT_SMTP_URL: server, LIFEBOAT_EMAIL_TO: to, LIFEBOAT_EMAIL_FROM: from } = values;
  const { LIFEBOAT_TELEGRAM_TOKEN: token, LIFEBOAT_TELEGRAM_CHAT: chat } = values;
  const { LIFEBOAT_PAGERDUTY_ROUTING_KEY: routingKey, LIFEBOAT_NTFY_URL: ntfy, LIFEBOAT_WEBHOOK_URL: hook } = values;
  return {
    notify: values.LIFEBOAT_NOTIFY,
    healthchecks: {
      url: values.LIFEBOAT_HEALTHCHECKS_URL,
      pingKey: values.LIFEBOAT_HEALTHCHECKS_PING_KEY,
      slug: values.LIFEBOAT_HEALTHCHECKS_SLUG,
      base: values.LIFEBOAT_HEALTHCHECKS_BASE,
      sources: values.LIFEBOAT_HEALTHCHECKS_SOURCES,
      walUrl: values.LIFEBOAT_HEALTHCHECKS_WAL_URL,
      drillUrl: values.LIFEBOAT_HEALTHCHECKS_DRILL_URL,
    },
    slackUrl: values.LIFEBOAT_SLACK_WEBHOOK_URL,
    discordUrl: values.LIFEBOAT_DISCORD_WEBHOOK_URL,
    email: server !== undefined && to?.[0] !== undefined ? { server, from: from ?? to[0], to } : undefined,
    pagerDuty: routingKey === undefined ? undefined : { routingKey, base: values.LIFEBOAT_PAGERDUTY_URL },
    ntfy: ntfy === undefined ? undefined : { url: ntfy, token: values.LIFEBOAT_NTFY_TOKEN },
    telegram:
      token === undefined || chat === undefined ? undefined : { token, chat, base: values.LIFEBOAT_TELEGRAM_URL },
    webhook: hook === undefined ? undefined : { url: hook, secret: values.LIFEBOAT_WEBHOOK_SECRET },
    letterSchedule: values.LIFEBOAT_DIGEST_SCHEDULE,
  };
}

/** Returns the mistakes that a single value does not show. `given`: the names that are set. */
export function messageMistakes(
  given: { has(name: string): boolean },
  { LIFEBOAT_HEALTHCHECKS_SOURCES: sources }: Pick<Values<typeof MESSAGE_SETTINGS>, 'LIFEBOAT_HEALTHCHECKS_SOURCES'>,
): Mistake[] {
  const [check, key] = ['LIFEBOAT_HEALTHCHECKS_URL', 'LIFEBOAT_HEALTHCHECKS_PING_KEY'];
  const mistakes: Mistake[] = [];
  if (given.has(check) && given.has(key))
    mistakes.push(mistake(check, 'invalid', `${check} and ${key} are both set`, 'remove one of them'));
  if (sources?.kind === 'all' && !given.has(key)) {
    const name = 'LIFEBOAT_HEALTHCHECKS_SOURCES';
    const hint = 'set the ping key, or name the check of each source: db.postgres=https://hc-ping.com/<uuid>';
    mistakes.push(mistake(name, 'invalid', `${name} is all, and ${key} is not set`, hint));
  }
  return mistakes;
}

/** Returns the secret values among the settings of messages. */
export function messageSecrets(messages: MessageSettings): string[] {
  const { healthchecks, slackUrl, discordUrl, email, pagerDuty, ntfy, telegram, webhook } = messages;
  const { url: check, pingKey, walUrl, drillUrl, sources } = healthchecks;
  const checks = sources?.kind === 'named' ? sources.checks.map((one) => one.url) : [];
  const keys = [pagerDuty?.routingKey, ntfy?.url, ntfy?.token, telegram?.token, webhook?.url, webhook?.secret];
  const all = [check, pingKey, walUrl, drillUrl, ...checks, slackUrl, discordUrl, email?.server, ...keys];
  return all.filter((value) => value !== undefined);
}
