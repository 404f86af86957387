import { afterEach, describe, expect, test } from 'vitest';
import type { Engine } from '../../src/docker/engine.ts';
import type { HookService, PlannedSource, PostgresSource } from '../../src/plan/model.ts';
import { askHealth, type Patience, reportHealth } from '../../src/restore/service-health.ts';
import { type Receiver, startReceiver } from '../harness/receiver.ts';

const patience: Patience = { healthyMs: 900, steadyMs: 300, endedMs: 300, answerMs: 300, answerPollMs: 20 };
const { signal } = new AbortController();
const db = { kind: 'postgres', project: 'shop', service: 'db', containerId: 'c1' } as PostgresSource;
const serviceOf = (more: Partial<HookService>): HookService => ({
  ...{ project: 'shop', service: 'web', containerId: 'c2', containerName: 'shop-web-1', dependsOn: ['db'] },
  ...more,
});

let receiver: Receiver | undefined;
afterEach(() => receiver?.close());

/** Asks after a restore of {@link db}. */
function ask(hooks: HookService[], engine: object = {}, answerMs = patience.answerMs) {
  const plan = async () => ({ sources: [] as PlannedSource[], hooks });
  return askHealth({ engine: engine as Engine, plan }, { replaced: [db], warnings: [] }, signal, {
    ...patience,
    answerMs,
  });
}

describe('lifeboat.health after a restore', () => {
  test('asks the services that use the data, each once, and no other', async () => {
    receiver = await startReceiver();
    receiver.behave([{ status: 503 }, { status: 200 }]);
    const web = serviceOf({ health: { url: `${receiver.url}/up?token=secret` } });
    const other = serviceOf({ containerId: 'c3', dependsOn: ['mail'], health: { url: `${receiver.url}/other` } });
    // Long enough, also on a machine that stalls.
    expect(await ask([web, web, other, serviceOf({ containerId: 'c4' })], {}, 20_000)).toEqual([
      { name: 'lifeboat.health of shop-web-1', ok: true, detail: 'answers' },
    ]);
    expect(receiver.requests.map(({ path }) => path)).toEqual(['/up', '/up']);
  });

  test('is a failed check if the answer stays bad, or nobody can be asked', async () => {
    receiver = await startReceiver();
    receiver.behave({ status: 500 });
    const name = 'lifeboat.health of shop-web-1';
    expect(await ask([serviceOf({ health: { url: receiver.url } })])).toEqual([
      { name, ok: false, detail: 'status 500' },
    ]);
    const command = serviceOf({ health: { argv: ['check'] } });
    const stopped = { inspectContainer: async () => ({ running: false }) };
    expect(await ask([command], stopped)).toEqual([{ name, ok: false, detail: 'it is not running' }]);
    const broken = { inspectContainer: () => Promise.reject(new Error('no engine')) };
    expect(await ask([command], broken)).toEqual([{ name, ok: false, detail: 'no engine' }]);
  });

  test('is a failed check if the services cannot be listed', async () => {
    const deps = { engine: {} as Engine, plan: () => Promise.reject(new Error('no engine')) };
    expect(await askHealth(deps, { replaced: [db], warnings: [] }, signal, patience)).toEqual([
      { name: 'lifeboat.health', ok: false, detail: 'no engine' },
    ]);
  });

  test('adds nothing to the report if there is no question, and asks nobody if no data was replaced', async () => {
    const report = { checks: [], steps: [], warnings: [] };
    const unused = { engine: {} as Engine, plan: () => Promise.reject(new Error('no engine')) };
    await reportHealth(unused, { replaced: [] }, signal, report);
    await reportHealth({ ...unused, plan: async () => ({ sources: [] }) }, { replaced: [db] }, signal, report);
    expect(report).toEqual({ checks: [], steps: [], warnings: [] });
  });

  test('in a copy, skips a URL, which may lead to the live service, and services that have never started', async () => {
    receiver = await startReceiver();
    const hooks = [
      serviceOf({ health: { url: receiver.url } }),
      serviceOf({ containerId: 'c3', containerName: 'copy-jobs-1', health: { argv: ['check'] } }),
    ];
    const engine = { inspectContainer: async () => ({ state: 'created', running: false }) } as unknown as Engine;
    const deps = { engine, plan: async () => ({ sources: [], hooks }), isCopy: true };
    const report = { checks: [], steps: [], warnings: [] };
    await reportHealth(deps, { replaced: [db] }, signal, report);
    expect(receiver.requests).toEqual([]);
    expect(report).toEqual({
      checks: [],
      steps: [],
      warnings: [
        'lifeboat.health of shop-web-1 was not asked, because in a copy, its URL may lead to the live service',
        'lifeboat.health of copy-jobs-1 was not asked, because the service has never started',
      ],
    });
  });

  test('ends with the reason of an interrupt', async () => {
    const why = new Error('stopped');
    const plan = async () => ({ sources: [], hooks: [serviceOf({ health: { url: 'http://127.77.0.1:1/' } })] });
    const asked = askHealth(
      { engine: {} as Engine, plan },
      { replaced: [db], warnings: [] },
      AbortSignal.abort(why),
      patience,
    );
    await expect(asked).rejects.toBe(why);
  });
});
