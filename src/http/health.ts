import type { ErrorCode } from '../base/errors.ts';
import { toLifeboatError } from '../base/errors.ts';
import type { HttpDeps } from './deps.ts';
import type { FactsSource } from './facts.ts';

/** One check of the daemon's health. */
interface HealthCheck {
  name: 'agent' | 'scheduler' | 'engine' | 'destination';
  ok: boolean;
  /** why it failed: a code of docs/errors.md, or a few words. Names no path and no host, because anybody may ask */
  why?: ErrorCode | string;
}

/** The health of the daemon. */
interface Health {
  status: 'ok' | 'failing';
  checks: HealthCheck[];
}

/** The scheduler looks each minute. After this time without a look it hangs, milliseconds. */
const TICK_LIMIT_MS = 150_000;
/** The time limit for an answer of the engine, milliseconds. */
const PING_LIMIT_MS = 5000;
/**
 * Facts that are older say nothing about the destination, milliseconds. They are collected again every five minutes,
 * and that may take two.
 */
const FACTS_LIMIT_MS = 10 * 60_000;
/** Why the check of the destination fails then. */
const OLD = 'no look at it has succeeded for minutes';
/** An answer of the engine is reused this long, milliseconds, so that many requests make one ping. */
const PING_KEEP_MS = 5000;

/**
 * Creates the health check. It asks the engine, and looks at what the daemon knows: nothing is sent to the destination.
 *
 * @param deps the engine and the scheduler
 * @param facts what the last look at the destination found
 */
export function createHealth(
  { engine, sinceTick }: Pick<HttpDeps, 'engine' | 'sinceTick'>,
  facts: Pick<FactsSource, 'peek' | 'age'>,
): () => Promise<Health> {
  let asked: { at: number; answer: Promise<ErrorCode | undefined> } | undefined;
  const ping = () => {
    const at = performance.now();
    if (asked && at - asked.at < PING_KEEP_MS) return asked.answer;
    const answer = engine.ping({ signal: AbortSignal.timeout(PING_LIMIT_MS) }).then(
      () => undefined,
      (error: unknown) => toLifeboatError(error, 'ENGINE_UNREACHABLE').code,
    );
    asked = { at, answer };
    return answer;
  };
  return async () => {
    const engineCode = await ping();
    const isOld = facts.age() > FACTS_LIMIT_MS;
    const destination = isOld ? OLD : facts.peek()?.overview.found.problem?.code;
    const checks: HealthCheck[] = [
      { name: 'agent', ok: true },
      judge('scheduler', sinceTick() <= TICK_LIMIT_MS ? undefined : 'it has not looked for due runs for minutes'),
      judge('engine', engineCode),
      judge('destination', destination),
    ];
    return { status: checks.every(({ ok }) => ok) ? 'ok' : 'failing', checks };
  };
}

function judge(name: HealthCheck['name'], why: string | undefined): HealthCheck {
  return why === undefined ? { name, ok: true } : { name, ok: false, why };
}
