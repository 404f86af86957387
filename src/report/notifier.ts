import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { Listener } from './events.ts';

/** A listener that tells people. */
export interface Notifier extends Listener {
  /**
   * Sends something clearly marked as a test, which no one can take for a run's result. Returns one line on what
   * happened (`hooks.slack.com took the message`); rejects with NOTIFY_FAILED.
   */
  test(signal: AbortSignal): Promise<string>;
}

/** How one notifier's test went. Redacted. */
interface TestResult {
  name: string;
  ok: boolean;
  /** what happened, when it went well */
  detail?: string;
  error?: ErrorInfo;
}

/** Tests all notifiers side by side, each for at most the limit (milliseconds). Never rejects. */
export async function testNotifiers(
  notifiers: readonly Notifier[],
  { limitMs = 30_000 }: { limitMs?: number } = {},
): Promise<TestResult[]> {
  return Promise.all(
    notifiers.map(async (notifier): Promise<TestResult> => {
      const controller = new AbortController();
      const { promise: late, reject } = Promise.withResolvers<never>();
      const timer = setTimeout(() => {
        controller.abort();
        reject(new LifeboatError('NOTIFY_FAILED', `no answer within ${Math.round(limitMs / 1_000)} s`));
      }, limitMs);
      try {
        const detail = await Promise.race([notifier.test(controller.signal), late]);
        return redactDeep({ name: notifier.name, ok: true, detail });
      } catch (error) {
        return redactDeep({ name: notifier.name, ok: false, error: errorInfo(error) });
      } finally {
        clearTimeout(timer);
      }
    }),
  );
}
