import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { LifeboatError, toLifeboatError } from '../../../../../src/base/errors.ts';
import type { ContainerDetails } from '../../../../../src/docker/answers.ts';
import { explainRestart } from '../../../../../src/sources/postgres/server/restarted.ts';

/** The engine's answers to one look after the other; the last one stands. */
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

/** Looks that find it running: more than there is time for in the moment in which the engine may lag behind. */
const long = Array.from({ length: 30 }, () => true);

const lost = new LifeboatError('PG_DUMP_FAILED', 'pg_dump of app failed', {
  cause: new Error('server closed the connection unexpectedly'),
});
const wrong = new LifeboatError('PG_DUMP_FAILED', 'pg_dump of app failed', { cause: new Error('permission denied') });

describe('a failure while the database container goes away', () => {
  it.each([
    ['it was gone when the engine was asked', wrong, told(false), 'PG_RESTARTED'],
    ['it was removed', wrong, told('away'), 'PG_RESTARTED'],
    ['the engine hears of its end a moment later', lost, told(true, true, false), 'PG_RESTARTED'],
    ['it was asked to stop, and takes its time', lost, withEvents(['2'], ...long, false), 'PG_RESTARTED'],
    ['it runs on, and nothing was lost', wrong, told(true), 'PG_DUMP_FAILED'],
  ])('is told as that: %s', async (_, error, container, code) => {
    expect(toLifeboatError(await explainRestart(error, container)).code).toBe(code);
  });

  it('is waited for no longer when the clock is set back meanwhile', async () => {
    let now = Date.now();
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => (now -= 3_600_000));
    onTestFinished(() => clock.mockRestore());
    expect(await explainRestart(lost, told(true))).toBe(lost);
  });
});
