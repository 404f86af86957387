import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { LifeboatError, toLifeboatError } from '../../../../../src/base/errors.ts';
import type { ContainerDetails } from '../../../../../src/docker/answers.ts';
import { explainRestart } from '../../../../../src/sources/postgres/server/restarted.ts';

/** The engine's answers to successive requests. The last one repeats. */
function told(...answers: (boolean | 'away')[]) {
  return withEvents([], ...answers);
}

function withEvents(signals: string[], ...answers: (boolean | 'away')[]) {
  const inspectContainer = async () => {
    const running = answers.length > 1 ? answers.shift() : answers[0];
    if (running === 'away') throw new Error('no such container');
    return { running, startedAt: 'then' } as ContainerDetails;
  };
  async function* events() {
    for (const signal of signals) yield { id: 'c1', action: 'kill', time: 1, attributes: { signal } };
  }
  return {
    engine: { inspectContainer, ping: async () => undefined, events: async () => events() },
    ...{ id: 'c1', name: 'db-1', startedAt: 'then', since: new Date(), signal: new AbortController().signal },
  };
}

/** Answers that report it as running: more than fit into the time by which the engine may lag. */
const long = Array.from({ length: 30 }, () => true);

const lost = new LifeboatError('PG_DUMP_FAILED', 'pg_dump of app failed', {
  cause: new Error('server closed the connection unexpectedly'),
});
const wrong = new LifeboatError('PG_DUMP_FAILED', 'pg_dump of app failed', { cause: new Error('permission denied') });

describe('a failure while the database container ends', () => {
  it.each([
    ['it had ended when the engine was asked', wrong, told(false), 'PG_RESTARTED'],
    ['it was removed', wrong, told('away'), 'PG_RESTARTED'],
    ['the engine reports its end a moment later', lost, told(true, true, false), 'PG_RESTARTED'],
    ['it is being stopped, which takes long', lost, withEvents(['2'], ...long, false), 'PG_RESTARTED'],
    ['it is still running, and no connection was lost', wrong, told(true), 'PG_DUMP_FAILED'],
  ])('is reported as such: %s', async (_, error, container, code) => {
    expect(toLifeboatError(await explainRestart(error, container)).code).toBe(code);
  });

  it('does not wait longer if the clock is set back', async () => {
    let now = Date.now();
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => (now -= 3_600_000));
    onTestFinished(() => clock.mockRestore());
    expect(await explainRestart(lost, told(true))).toBe(lost);
  });
});
