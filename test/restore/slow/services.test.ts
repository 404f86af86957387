import { afterEach, describe, expect, test } from 'vitest';
import { LifeboatError } from '../../../src/base/errors.ts';
import { silentLog } from '../../../src/base/log.ts';
import type { Engine } from '../../../src/docker/engine.ts';
import type { PostgresSource, VolumeSource } from '../../../src/plan/model.ts';
import { dependencies } from '../../../src/plan/values/depends-on.ts';
import { concerns } from '../../../src/restore/naming.ts';
import { answersWell, type Patience } from '../../../src/restore/service-health.ts';
import { withStopped } from '../../../src/restore/services.ts';
import type { HoldDeps } from '../../../src/run/release.ts';
import { type Receiver, startReceiver } from '../../harness/receiver.ts';

const patience: Patience = { healthyMs: 900, steadyMs: 300, endedMs: 300, answerMs: 600, answerPollMs: 20 };
/** For tests that end by themselves. */
const patient = { ...patience, answerMs: 20_000 };
const signal = new AbortController().signal;

test('the depends_on label of Compose names services', () => {
  const of = (text: string) => dependencies({ labels: { 'com.docker.compose.depends_on': text } });
  expect(of('db:service_healthy:false,redis:service_started:true')).toEqual(['db', 'redis']);
  expect(of('')).toEqual([]);
  expect(dependencies({ labels: {} })).toEqual([]);
});

describe('a URL that is requested after a restore', () => {
  let receiver: Receiver | undefined;
  afterEach(() => receiver?.close());
  const url = (more = '') => new URL(`${receiver!.url}/up${more}`);

  test('is healthy when it answers 2xx, and its query stays secret', async () => {
    receiver = await startReceiver();
    receiver.behave([{ status: 502 }, { reset: true }, { status: 204 }]);
    expect(await answersWell(url('?token=secret'), signal, patient)).toEqual({
      name: `127.0.0.1:${receiver.port}/up`,
      ok: true,
      detail: 'answers',
    });
    expect(receiver.requests.map(({ method, query }) => [method, query])).toEqual(
      Array.from({ length: 3 }, () => ['GET', { token: 'secret' }]),
    );
  });

  test('is unhealthy if it answers something else until the time limit', async () => {
    receiver = await startReceiver();
    receiver.behave({ status: 500 });
    // Long enough for a second request, also on a machine that stalls.
    const long = { ...patience, answerMs: 4000 };
    expect(await answersWell(url(), signal, long)).toMatchObject({ ok: false, detail: 'status 500' });
    expect(receiver.requests.length).toBeGreaterThan(1);
  });

  test('is unhealthy if nothing answers', async () => {
    receiver = await startReceiver();
    const nobody = url();
    // Another test may get the port at the old address.
    nobody.hostname = '127.77.0.1';
    await receiver.close();
    expect(await answersWell(nobody, signal, patience)).toMatchObject({ ok: false, detail: 'no answer: ECONNREFUSED' });
  });

  test('is unhealthy at a blocked port, and the check says so', async () => {
    const nobody = new URL('http://127.0.0.1:6666/up');
    expect(await answersWell(nobody, signal, patience)).toMatchObject({ ok: false, detail: 'no answer: bad port' });
  });

  test('is not waited for after an interrupt', async () => {
    receiver = await startReceiver();
    receiver.behave({ hang: true });
    const why = new LifeboatError('INTERRUPTED', 'stopped');
    await expect(answersWell(url(), stopped(why), patient)).rejects.toBe(why);
    // Between two requests.
    receiver.behave({ status: 500 });
    await expect(answersWell(url(), stopped(why), { ...patient, answerPollMs: 20_000 })).rejects.toBe(why);
  });
});

/** Returns a signal that aborts soon. */
function stopped(why: Error): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(why), 200);
  return controller.signal;
}

describe('services that were stopped for a restore', () => {
  const ended = { running: false, state: 'exited' };
  type Seen = Partial<Awaited<ReturnType<Engine['inspectContainer']>>>;

  /**
   * Stops and starts one service. `after`: the engine's answers after the start; undefined if the container is gone.
   */
  function restart(after: () => Seen | undefined, patient: Patience = patience) {
    let running = true;
    let startedAt = '';
    const engine = {
      exitLagMs: 0,
      inspectContainer: async () => {
        if (!running) return { running, autoRemove: false, startedAt, labels: {} };
        const seen = startedAt === '' ? {} : after();
        if (seen) return { running, autoRemove: false, startedAt, state: 'running', labels: {}, ...seen };
        throw new LifeboatError('ENGINE_REFUSED', 'no such container', {
          cause: Object.assign(new Error('no such container'), { statusCode: 404 }),
        });
      },
      events: async () => [],
      listContainers: async () => [{ id: 'c1', name: 'shop-web-1', networkMode: 'bridge', labels: {} }],
      inspectImage: async () => ({ labels: {} }),
      stopContainer: async () => {
        running = false;
      },
      startContainer: async () => {
        running = true;
        startedAt = new Date().toISOString();
      },
    } as unknown as Engine;
    const deps: HoldDeps = { engine, record: () => undefined, log: silentLog, patienceMs: 1000 };
    const web = { id: 'c1', name: 'shop-web-1', project: 'shop', service: 'web' };
    return withStopped({ containers: [web], deps, signal, work: async () => 'done', patience: patient });
  }

  test.concurrent.each<[string, () => Seen | undefined, object]>([
    ['healthy', () => ({ health: 'healthy' }), { ok: true, detail: 'healthy' }],
    ['running, where they have no health check', () => ({}), { ok: true, detail: 'running' }],
    ['unhealthy', () => ({ health: 'unhealthy' }), { ok: false, detail: 'unhealthy' }],
    ['never done starting', () => ({ health: 'starting' }), { ok: false, detail: 'starting' }],
    [
      'restarting',
      () => ({ state: 'restarting', startedAt: '2026-11-20T03:00:00Z' }),
      { ok: false, detail: 'restarting' },
    ],
    ['done', () => ({ ...ended, exitCode: 0, restartPolicy: 'no' }), { ok: true, detail: 'ended with status 0' }],
    [
      'done badly',
      () => ({ ...ended, exitCode: 3, restartPolicy: 'no' }),
      { ok: false, detail: 'it ended with status 3' },
    ],
    [
      'stopped',
      () => ({ ...ended, exitCode: 0, restartPolicy: 'always' }),
      { ok: false, detail: 'it ended with status 0' },
    ],
    [
      'ended although they are checked',
      () => ({ ...ended, exitCode: 0, health: 'unhealthy' }),
      { ok: false, detail: 'it ended with status 0' },
    ],
    ['removed', () => undefined, { ok: false, detail: 'it has been removed' }],
  ])('fail their check if they are %s', async (_, after, check) => {
    const { result, checks, stoppedMs } = await restart(after);
    expect(result).toBe('done');
    expect(stoppedMs).toBeGreaterThanOrEqual(0);
    expect(checks).toEqual([{ name: 'shop-web-1', ...check }]);
  });

  test('without a health check count as healthy only if they keep running', async () => {
    let looks = 0;
    const { checks } = await restart(() => (++looks === 1 ? {} : { running: false, state: 'exited', exitCode: 3 }));
    expect(checks).toEqual([{ name: 'shop-web-1', ok: false, detail: 'it ended with status 3' }]);
    expect(looks).toBeGreaterThan(1);
  });

  // Longer than the time limit of a test.
  const forEver = { ...patience, healthyMs: 600_000 };

  test.each(['exited', 'dead'])('are not waited for if they have %s and are not restarted', async (state) => {
    const { checks } = await restart(() => ({ running: false, state, exitCode: 1, health: 'starting' }), forEver);
    expect(checks).toEqual([{ name: 'shop-web-1', ok: false, detail: 'it ended with status 1' }]);
  });

  test('are waited for while a user or the engine restarts them', async () => {
    const states: Seen[] = [
      { running: false, state: 'exited', exitCode: 1 },
      { state: 'restarting', exitCode: 1 },
      { running: false, state: 'exited', exitCode: 1 },
      { health: 'healthy' },
    ];
    const { checks } = await restart(() => (states.length > 1 ? states.shift() : states[0]), forEver);
    expect(checks).toEqual([{ name: 'shop-web-1', ok: true, detail: 'healthy' }]);
  });

  test('are waited for if the engine does not answer for a moment', async () => {
    let looks = 0;
    const silent = () => {
      throw new LifeboatError('ENGINE_UNREACHABLE', 'the engine does not answer');
    };
    const { checks } = await restart(() => (++looks === 1 ? silent() : { health: 'healthy' }), forEver);
    expect(checks).toEqual([{ name: 'shop-web-1', ok: true, detail: 'healthy' }]);
    expect((await restart(silent)).checks).toEqual([
      { name: 'shop-web-1', ok: false, detail: 'the engine does not answer' },
    ]);
  });

  test('are waited for until they are healthy', async () => {
    const from = performance.now();
    const { checks } = await restart(() => ({ health: performance.now() - from > 300 ? 'healthy' : 'unhealthy' }));
    expect(checks).toEqual([{ name: 'shop-web-1', ok: true, detail: 'healthy' }]);
  });
});

describe('a container labelled lifeboat.stop', () => {
  const volume = (name: string) => ({
    type: 'volume',
    name,
    source: `/v/${name}`,
    destination: '/data',
    writable: false,
  });
  const base = { project: 'shop', containerId: 'd', containerName: 'shop-db-1', schedule: '@daily', keep: {} };
  const database = { ...base, kind: 'postgres', name: 'db.postgres', service: 'db' } as unknown as PostgresSource;
  const media = { ...base, kind: 'volume', name: 'web.media', mount: volume('media') } as unknown as VolumeSource;

  test('is related to a database whose service it names', () => {
    const names = (text: string) => concerns({ mounts: [], env: { X: text }, command: [] }, database);
    for (const text of [
      'db',
      'db:5432',
      'postgres://app:secret@db:5432/shop',
      'postgres://db/shop',
      'host=db user=a',
      'shop-db-1',
    ]) {
      expect(names(text), text).toBe(true);
    }
    for (const text of ['', 'dbname', '/var/lib/db', 'redis:6379', 'my-db', 'db.example.com']) {
      expect(names(text), text).toBe(false);
    }
    expect(concerns({ mounts: [], env: {}, command: ['app', '--database', 'db:5432'] }, database)).toBe(true);
    // A cache that is stopped for its own volume.
    expect(concerns({ mounts: [volume('cache')], env: {} }, database)).toBe(false);
  });

  test('is related to a volume that it mounts in any way', () => {
    expect(concerns({ mounts: [volume('media')], env: {} }, media)).toBe(true);
    expect(concerns({ mounts: [volume('cache')], env: { MEDIA: 'media' } }, media)).toBe(false);
  });
});
