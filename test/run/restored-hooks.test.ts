import { describe, expect, it } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import type { Engine } from '../../src/docker/engine.ts';
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
});
