import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Engine } from '../../src/docker/engine.ts';
import type { PostgresSource } from '../../src/plan/model.ts';
import { runRestoredHooks } from '../../src/run/restored-hooks.ts';

describe('the commands after a restore', () => {
  const engine = {} as Engine;
  const gone = () => Promise.reject(new LifeboatError('ENGINE_UNREACHABLE', 'the engine does not answer'));

  it('are a failed check if the services cannot be listed, because the data is in place', async () => {
    expect(await runRestoredHooks({ engine, plan: gone }, [], new AbortController().signal)).toEqual([
      { name: 'lifeboat.exec.restored', ok: false, detail: 'the engine does not answer' },
    ]);
  });

  it('end with the reason of an interrupt', async () => {
    const why = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
    await expect(runRestoredHooks({ engine, plan: gone }, [], AbortSignal.abort(why))).rejects.toBe(why);
  });

  it.each([
    [{ running: false, paused: false }, 'shop-web-1 is stopped: start it, then run the command'],
    [{ running: true, paused: true }, 'shop-web-1 is paused: unpause it, then run the command'],
  ])('are a failed check with the next step if the service does not run', async (state, detail) => {
    const web = { containerId: 'c1', containerName: 'shop-web-1', project: 'shop', service: 'web', dependsOn: ['db'] };
    const hooks = [{ ...web, restored: { argv: ['migrate'] } }];
    const stopped = { inspectContainer: async () => state } as unknown as Engine;
    const db = { kind: 'postgres', project: 'shop', service: 'db', containerId: 'c2' } as PostgresSource;
    const plan = async () => ({ sources: [], hooks });
    expect(await runRestoredHooks({ engine: stopped, plan }, [db], new AbortController().signal)).toEqual([
      { name: 'lifeboat.exec.restored in shop-web-1', ok: false, detail },
    ]);
  });
});
