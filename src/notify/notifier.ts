import { type ErrorInfo, errorInfo, LifeboatError } from '../base/errors.ts';
import { redactDeep } from '../base/redact.ts';
import type { Listener } from '../report/events.ts';

/** A listener that notifies people or a monitoring service. */
export interface Notifier extends Listener {
  /**
   * Sends a message that is clearly marked as a test. Returns one line about the result (`hooks.slack.com accepted the
   * message`). Rejects with NOTIFY_FAILED.
   */
  test(signal: AbortSignal): Promise<string>;
  /** Called once by the daemon: sends what other processes, or an earlier daemon, could not send. Never throws. */
  resume?(signal: AbortSignal): void;
}

/** The result of testing one notifier. Redacted. */
interface TestResult {
  name: string;
  ok: boolean;
  /** the result of a success */
  detail?: string;
  error?: ErrorInfo;
}

/** Tests all notifiers in parallel, each for at most `limitMs` (milliseconds). Never rejects. */
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
