import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ownRepository } from '../../src/app/own-repository.ts';
import { silentLog } from '../../src/base/log.ts';
import { createLocalDestination } from '../../src/destinations/local.ts';
import { openState } from '../../src/run/state.ts';
import { nextPlace } from '../../src/store/repository/chain.ts';
import { openRepository } from '../../src/store/repository/open-repository.ts';
import { rememberList } from '../../src/store/repository/seen-chain.ts';
import { scratchBase } from '../store/helpers.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(scratchBase, 'lifeboat-own-'));
  mkdirSync(at('main'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const at = (name: string) => join(root, name);

function openOwn() {
  const destination = createLocalDestination({ root: at('main') });
  const state = openState(at('state'));
  const own = ownRepository({
    ...{ at: '/backups', destination, project: 'shop', state, log: silentLog, mistaken: () => undefined },
    openAt: (_, where, options) => openRepository(where, { keys: {}, ...options }),
  });
  /** Commits a snapshot above what the agent knows to be taken, as a run does, and remembers the chain. */
  const commit = async (id: string) => {
    const repository = await own.open({ create: true });
    const place = await nextPlace(repository, await repository.snapshots(), await state.abandoned('shop'));
    const time = '2026-11-21T03:00:00.000Z';
    const { manifest } = await repository.commit({
      ...{ format: 1, id, project: 'shop', start: time, end: time, trigger: 'schedule', agentVersion: '0.1.0' },
      ...{ status: 'ok', sources: {}, ...place },
    });
    await state.saveChain('shop', rememberList(await repository.snapshots(), []));
    return manifest;
  };
  return { own, state, commit };
}

test('a chain that continues from an accepted older state stays above the snapshots that were lost', async () => {
  const { own, state, commit } = openOwn();
  const first = await commit('20261121T030000Z-000001');
  cpSync(at('main'), at('older'), { recursive: true });
  for (const day of [2, 3]) await commit(`2026112${day}T030000Z-00000${day}`);
  rmSync(at('main'), { recursive: true });
  cpSync(at('older'), at('main'), { recursive: true });
  expect(await own.accept()).toMatchObject({ how: 'found' });
  expect(await state.abandoned('shop')).toBe(3);
  expect(await commit('20261124T030000Z-000004')).toMatchObject({ sequence: 4, previous: expect.any(String) });
  // Another accepted state takes nothing back.
  rmSync(at('main'), { recursive: true });
  cpSync(at('older'), at('main'), { recursive: true });
  await own.accept();
  expect(await commit('20261125T030000Z-000005')).toMatchObject({ sequence: 5 });
  expect(first.sequence).toBe(1);
  // A new repository has copies of its own.
  rmSync(at('main'), { recursive: true });
  mkdirSync(at('main'));
  expect(await own.accept()).toMatchObject({ how: 'created' });
  expect(await state.abandoned('shop')).toBe(0);
});
