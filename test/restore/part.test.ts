import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rememberedVolumes } from '../../src/kept/copy-data.ts';
import type { Plan, VolumeSource } from '../../src/plan/model.ts';
import type { RestoreReport } from '../../src/report/events.ts';
import type { PreparedRestore, RestoreContext, RestoreDeps, RestoreRequest } from '../../src/restore/context.ts';
import { prepare, swapPart } from '../../src/restore/part.ts';
import { copyLines, nameToConfirm } from '../../src/restore/preview.ts';
import { openState } from '../../src/run/state.ts';

describe('a restore into a copy', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'lifeboat-part-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  const labels = { 'com.docker.compose.project': 'staging' };
  const mount = { type: 'volume', name: 'staging_media', source: '/x', destination: '/media', writable: true };
  const target = { kind: 'volume', name: 'web.media', project: 'staging', mount } as VolumeSource;
  const request = { source: 'web.media', signal: new AbortController().signal } as RestoreRequest;
  const context = { id: 'r', entry: { kind: 'tree' }, snapshot: { id: 's' } } as unknown as RestoreContext;

  /** Everything else of a restore is missing, so that a step beyond the check fails in another way. */
  function depsWith(options: Record<string, string>, project = 'staging'): RestoreDeps {
    const engine = {
      inspectContainer: async () => ({ labels, mounts: [mount] }),
      inspectVolume: async () => ({ labels, options }),
      listContainers: async () => [],
    };
    const plan = async () => ({ sources: [{ ...target, project }] }) as unknown as Plan;
    const state = openState(path.join(directory, 'state'));
    return { engine, plan, state, project: 'staging', isCopy: true } as unknown as RestoreDeps;
  }

  test('is refused before its preparation reads anything, if the data may be that of another project', async () => {
    const refused = { code: 'TREE_TARGET_REFUSED' };
    await expect(prepare(depsWith({ device: '/srv/media' }), request, context)).rejects.toMatchObject(refused);
    await expect(prepare(depsWith({}, 'shop'), request, context)).rejects.toMatchObject(refused);
    await expect(prepare(depsWith({}), request, context)).rejects.not.toMatchObject(refused);
  });

  test('is refused before the swap, if the volume has changed since the preparation', async () => {
    let swaps = 0;
    const prepared = {
      preview: { target, replaces: [] },
      swap: async () => {
        swaps++;
        return { restored: [], warnings: [] };
      },
    } as unknown as PreparedRestore;
    const report = { warnings: [], steps: [], restored: [] } as unknown as RestoreReport;
    const swap = (deps: RestoreDeps) => swapPart(deps, request, context, { prepared, report });
    await expect(swap(depsWith({ device: '/srv/media' }))).rejects.toMatchObject({ code: 'TREE_TARGET_REFUSED' });
    expect(swaps).toBe(0);
    const deps = depsWith({});
    await swap(deps);
    expect(swaps).toBe(1);
    expect(await rememberedVolumes(deps.state.directory)).toEqual(['staging_media']);
  });

  test('names the project in its preview, and asks for its name', () => {
    const copy = { project: 'staging', isCopy: true };
    expect(copyLines(copy)).toEqual(['  into project   staging, a copy: no safety snapshot of it is taken']);
    expect(nameToConfirm(copy, 'db.postgres')).toBe('staging');
    const live = { project: 'shop', isCopy: false };
    expect([copyLines(live), nameToConfirm(live, 'db.postgres')]).toEqual([[], 'db.postgres']);
  });
});
