import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Engine } from '../../src/docker/engine.ts';
import type { PostgresSource } from '../../src/plan/model.ts';
import { runRestoredHooks } from '../../src/run/restored-hooks.ts';

describe('the commands after a restore', () => {
  const engine = {} as Engine;
  const gone = () => Promise.reject(new LifeboatError('ENGINE_UNREACHABLE', 'the engine does not answer'));

  it('are a failed check if the services cannot be listed, because the data is in place', async () => {
    expect(await runRestoredHooks({ engine, plan: gone }, [], new AbortController().signal, [])).toEqual([
      { name: 'lifeboat.exec.restored', ok: false, detail: 'the engine does not answer' },
    ]);
  });

  it('end with the reason of an interrupt', async () => {
    const why = new LifeboatError('INTERRUPTED', 'the run was asked to stop');
    await expect(runRestoredHooks({ engine, plan: gone }, [], AbortSignal.abort(why), [])).rejects.toBe(why);
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
    expect(await runRestoredHooks({ engine: stopped, plan }, [db], new AbortController().signal, [])).toEqual([
      { name: 'lifeboat.exec.restored in shop-web-1', ok: false, detail },
    ]);
  });

  it('are skipped in a copy for services that have never started, and only for those', async () => {
    const web = { containerId: 'c1', containerName: 'copy-web-1', project: 'copy', service: 'web', dependsOn: ['db'] };
    const jobs = { ...web, containerId: 'c3', containerName: 'copy-jobs-1', service: 'jobs' };
    const hooks = [web, jobs].map((one) => ({ ...one, restored: { argv: ['migrate'] } }));
    const engine = {
      inspectContainer: async (id: string) => ({ running: false, state: id === 'c1' ? 'created' : 'exited' }),
    } as unknown as Engine;
    const db = { kind: 'postgres', project: 'copy', service: 'db', containerId: 'c2' } as PostgresSource;
    const deps = { engine, plan: async () => ({ sources: [], hooks }), isCopy: true };
    const warnings: string[] = [];
    expect(await runRestoredHooks(deps, [db], new AbortController().signal, warnings)).toEqual([
      expect.objectContaining({ name: 'lifeboat.exec.restored in copy-jobs-1', ok: false }),
    ]);
    expect(warnings).toEqual([
      expect.stringContaining(
        'lifeboat.exec.restored of copy-web-1 did not run, because the service has never started',
      ),
    ]);
  });
});
