import type { Settings } from '../plan/settings.ts';
import { createHealthchecks } from '../report/healthchecks.ts';
import { secretUrl } from '../report/http.ts';
import type { Notifier } from '../report/notifier.ts';
import { withPolicy } from '../report/policy.ts';
import { createSlack } from '../report/slack.ts';
import { createWebhook } from '../report/webhook.ts';

/** Creates the notifiers that the settings ask for. */
export function createNotifiers(settings: Settings, project: string): Notifier[] {
  const zone = settings.timeZone;
  const notifiers: Notifier[] = [];
  if (settings.healthchecksUrl) {
    const url = secretUrl(settings.healthchecksUrl, 'LIFEBOAT_HEALTHCHECKS_URL');
    notifiers.push(createHealthchecks({ target: { url }, project, zone }));
  }
  if (settings.healthchecksPingKey) {
    const slug = settings.healthchecksSlug ?? `${project}-backup`;
    const target = { pingKey: settings.healthchecksPingKey, slug, base: settings.healthchecksBase };
    notifiers.push(createHealthchecks({ target, project, zone }));
  }
  if (settings.slackWebhookUrl) {
    const url = secretUrl(settings.slackWebhookUrl, 'LIFEBOAT_SLACK_WEBHOOK_URL');
    notifiers.push(withPolicy(createSlack({ url, project, zone }), settings.notify));
  }
  if (settings.webhookUrl) {
    const url = secretUrl(settings.webhookUrl, 'LIFEBOAT_WEBHOOK_URL');
    notifiers.push(withPolicy(createWebhook({ url, project }), settings.notify));
  }
  return notifiers;
}
