import { EXIT } from '../base/exit.ts';
import { type Call, print } from './call.ts';

export async function testNotify(call: Call): Promise<number> {
  const { testNotifiers } = await import('../notify/notifier.ts');
  const results = await testNotifiers(call.app.notifiers);
  print(call, 'notify test', { notifiers: results }, () =>
    results.length === 0
      ? 'No channel is set: LIFEBOAT_HEALTHCHECKS_URL, LIFEBOAT_SLACK_WEBHOOK_URL or another one of docs/notifications.md.'
      : results
          .map(
            ({ name, ok, detail, error }) =>
              `${name}: ${ok ? (detail ?? 'ok') : `failed, ${error?.message} (${error?.code})`}`,
          )
          .join('\n'),
  );
  if (results.length === 0) return EXIT.nothing;
  return results.every(({ ok }) => ok) ? EXIT.done : EXIT.failed;
}
