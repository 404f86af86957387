import type { Log } from '../base/log.ts';
import { type Channel, createNotifier } from '../notify/channel.ts';
import { createDiscord } from '../notify/discord.ts';
import { createEmail } from '../notify/email.ts';
import { createHealthchecks } from '../notify/healthchecks.ts';
import { secretUrl } from '../notify/http.ts';
import type { Notifier } from '../notify/notifier.ts';
import { createNtfy } from '../notify/ntfy.ts';
import { createPagerDuty } from '../notify/pagerduty.ts';
import { type PingTarget, toSlug } from '../notify/ping.ts';
import { withPolicy } from '../notify/policy.ts';
import { createSlack } from '../notify/slack.ts';
import { createDrillCheck, createSourceChecks, createWalCheck } from '../notify/source-checks.ts';
import { createTelegram } from '../notify/telegram.ts';
import { createWebhook } from '../notify/webhook.ts';
import type { ChannelName } from '../plan/messages/notify-modes.ts';
import type { Settings } from '../plan/settings.ts';
import { lastProven } from '../targets/measured.ts';

/** Dependencies of the notifiers, in addition to the settings. */
interface NotifierParts {
  project: string;
  log: Log;
  /** of the state, see `createNotifier` */
  directory: string;
}

/** Creates the notifiers that the settings ask for. */
export function createNotifiers({ messages, timeZone: zone }: Settings, parts: NotifierParts): Notifier[] {
  const options = { ...parts, zone, proven: () => lastProven(parts.directory) };
  const people = channelsOf(messages, zone).map(([name, channel]) =>
    withPolicy(createNotifier(channel, options), { ...parts, mode: messages.notify[name] }),
  );
  const { pagerDuty } = messages;
  // PagerDuty decides by itself which of the events are news.
  const duty = pagerDuty ? [withPolicy(createNotifier(createPagerDuty(pagerDuty), options), { mode: 'always' })] : [];
  return [...checksOf(messages.healthchecks, parts, zone), ...people, ...duty];
}

function channelsOf(messages: Settings['messages'], zone: string): [ChannelName, Channel][] {
  const { slackUrl, discordUrl, email, ntfy, telegram, webhook } = messages;
  const url = (value: string, setting: string) => secretUrl(value, setting);
  const all: [ChannelName, Channel | undefined][] = [
    ['slack', slackUrl ? createSlack({ url: url(slackUrl, 'LIFEBOAT_SLACK_WEBHOOK_URL'), zone }) : undefined],
    ['discord', discordUrl ? createDiscord({ url: url(discordUrl, 'LIFEBOAT_DISCORD_WEBHOOK_URL') }) : undefined],
    ['email', email && createEmail(email)],
    ['ntfy', ntfy && createNtfy({ url: url(ntfy.url, 'LIFEBOAT_NTFY_URL'), token: ntfy.token })],
    ['telegram', telegram && createTelegram(telegram)],
    ['webhook', webhook && createWebhook({ ...webhook, url: url(webhook.url, 'LIFEBOAT_WEBHOOK_URL') })],
  ];
  return all.flatMap(([name, channel]): [ChannelName, Channel][] => (channel ? [[name, channel]] : []));
}

/** Creates the notifiers that ping checks: of all runs, of single sources, and of the write-ahead log. */
function checksOf(checks: Settings['messages']['healthchecks'], parts: NotifierParts, zone: string): Notifier[] {
  const { project } = parts;
  const { url, pingKey, slug, base, sources, walUrl, drillUrl } = checks;
  const bySlug = (name: string): PingTarget | undefined =>
    pingKey === undefined ? undefined : { pingKey, slug: toSlug(name), base };
  const byUrl = (value: string | undefined, setting: string): PingTarget | undefined =>
    value === undefined ? undefined : { url: secretUrl(value, setting) };
  const wal = byUrl(walUrl, 'LIFEBOAT_HEALTHCHECKS_WAL_URL') ?? bySlug(`${project}-wal`);
  const drill = byUrl(drillUrl, 'LIFEBOAT_HEALTHCHECKS_DRILL_URL') ?? bySlug(`${project}-drill`);
  const main = byUrl(url, 'LIFEBOAT_HEALTHCHECKS_URL') ?? bySlug(slug ?? `${project}-backup`);
  const named = new Map(
    sources?.kind === 'named'
      ? sources.checks.map((one) => [one.source, { url: secretUrl(one.url, 'LIFEBOAT_HEALTHCHECKS_SOURCES') }])
      : [],
  );
  const targetOf = (source: string) =>
    named.get(source) ?? (sources?.kind === 'all' ? bySlug(`${project}-${source}`) : undefined);
  return [
    ...(main ? [createHealthchecks({ ...parts, target: main, zone, withoutWal: !!wal, withoutDrills: !!drill })] : []),
    ...(sources ? [createSourceChecks({ project, targetOf, named: [...named.keys()], zone })] : []),
    ...(wal ? [createWalCheck({ target: wal, project })] : []),
    ...(drill ? [createDrillCheck({ ...parts, target: drill })] : []),
  ];
}
