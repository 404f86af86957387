import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../../../../src/base/errors.ts';
import { silentLog } from '../../../../../src/base/log.ts';
import type { ContainerDetails } from '../../../../../src/docker/answers.ts';
import { connectError } from '../../../../../src/sources/postgres/server/connect-error.ts';
import { mayBeStarting, type WhenUpPatience, whenUp } from '../../../../../src/sources/postgres/server/when-up.ts';

const unreachable = (cause: unknown) => new LifeboatError('PG_UNREACHABLE', 'db-1 does not answer', { cause });
const starting = unreachable(
  Object.assign(new Error('the database system is starting up'), { code: '57P03', severity: 'FATAL' }),
);
const refused = unreachable(new Error('connect: Connection refused'));
const full = unreachable(
  Object.assign(new Error('sorry, too many clients already'), { code: '53300', severity: 'FATAL' }),
);
const unequipped = connectError(new Error('exec: "bash": executable file not found in $PATH'), {
  container: 'db-1',
  address: '127.0.0.1:5432',
  user: 'postgres',
  database: 'postgres',
});
const denied = new LifeboatError('PG_AUTH', 'refused the credentials');
const gone = new LifeboatError('HELPER_FAILED', 'cannot join network of a non running container');

const brief = { startingMs: 400, youngMs: 400 };
const amply = { startingMs: 600_000, youngMs: 600_000 };

/** The results of successive attempts. The last one repeats. */
function open(
  outcomes: (LifeboatError | 'open')[],
  container: Partial<ContainerDetails> | undefined,
  patience: WhenUpPatience,
  signal = new AbortController().signal,
) {
  const heard: string[] = [];
  let attempts = 0;
  const inspectContainer = async () => {
    if (!container) throw new LifeboatError('ENGINE_REFUSED', 'no such container');
    const base = { running: true, state: 'running', restarts: 0, startedAt: new Date().toISOString() };
    return { ...base, ...container } as ContainerDetails;
  };
  const onWait = (phase: string) => heard.push(phase.replace('waiting for the database: ', ''));
  const server = { engine: { inspectContainer }, id: 'c1', name: 'db-1', log: silentLog, signal, onWait, patience };
  const result = whenUp(server, async () => {
    attempts++;
    const next = outcomes.length > 1 ? outcomes.shift() : outcomes[0];
    if (next instanceof LifeboatError) throw next;
    return next;
  });
  return { result, heard, attempts: () => attempts };
}

describe('a server', () => {
  it.each([
    ['that is starting up', [starting, starting, 'open'], {}, ['it is starting up']],
    [
      'that does not listen yet, then replays its log',
      [refused, starting, 'open'],
      {},
      ['it does not listen yet', 'it is starting up'],
    ],
    [
      'that accepts no more connections',
      [full, full, 'open'],
      {},
      ['it refuses connections: sorry, too many clients already'],
    ],
    ['whose container restarts', [gone, 'open'], { state: 'restarting', restarts: 2 }, ['its container restarts']],
  ] as const)('%s is waited for, which is reported once', async (_, outcomes, container, said) => {
    const { result, heard } = open([...outcomes], container, amply);
    expect(await result).toBe('open');
    expect(heard).toEqual(said);
  });

  it.each([
    ['refuses the password', denied, {}],
    ['has an image without bash', unequipped, {}],
    ['has refused connections for an hour', refused, { startedAt: new Date(Date.now() - 3_600_000).toISOString() }],
    ['crashes at each start', refused, { state: 'restarting', restarts: 30 }],
    ['crashes at each start, and is up for a moment', refused, { restarts: 30 }],
    ['is paused', refused, { paused: true, state: 'paused' }],
    ['was stopped', gone, { running: false, state: 'exited' }],
    ['was removed', gone, undefined],
  ])('that %s is not waited for', async (_, error, container) => {
    const { result, heard, attempts } = open([error], container, { ...amply, youngMs: 180_000 });
    await expect(result).rejects.toBe(error);
    expect({ heard, attempts: attempts() }).toEqual({ heard: [], attempts: 1 });
  });

  it.each([
    ['never comes up', starting, {}],
    ['never listens', refused, {}],
    ['restarts for ever', gone, { state: 'restarting' }],
  ])('that %s is waited for only for a limited time', async (_, error, container) => {
    const { result, attempts } = open([error], container, brief);
    await expect(result).rejects.toBe(error);
    expect(attempts()).toBeGreaterThan(1);
  });

  it('is not waited for after an interrupt', async () => {
    const stop = new AbortController();
    const why = new LifeboatError('INTERRUPTED', 'stopped');
    const { result } = open([starting], {}, amply, stop.signal);
    setTimeout(() => stop.abort(why), 50);
    await expect(result).rejects.toBe(why);
  });
});

it.each([
  ['starts', starting, true],
  ['does not listen', refused, true],
  ['accepts no more connections', full, false],
  ['has an image without bash', unequipped, false],
  ['refuses the password', denied, false],
])('whether a server that %s may be starting', (_, error, expected) => {
  expect(mayBeStarting(error)).toBe(expected);
});
