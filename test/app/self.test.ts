import { expect, test } from 'vitest';
import { planNow } from '../../src/app/self.ts';
import { readSettings } from '../../src/app/settings.ts';
import type { Engine } from '../../src/docker/engine.ts';
import type { ContainerFacts } from '../../src/plan/model.ts';

const labels = {
  'com.docker.compose.project': 'shop',
  'com.docker.compose.service': 'web',
  'lifeboat.volumes': 'true',
  'lifeboat.stop': 'true',
  'lifeboat.exec.pre': 'freeze',
};
const engine = {
  listContainers: async () => [{ id: 'c1', labels }],
  inspectContainer: async () => ({
    ...{ id: 'c1', name: 'shop-web-1', imageId: 'i1', running: false, state: 'exited', labels, env: {}, command: [] },
    ...{ restartPolicy: 'no', createdAt: '', startedAt: '', finishedAt: '' },
    mounts: [{ type: 'volume', name: 'media', source: '/s', destination: '/media', writable: true }],
  }),
  inspectImage: async () => ({ labels: {} }),
} as unknown as Engine;
const life = { state: 'running', restartPolicy: 'no', createdAt: '', startedAt: '', finishedAt: '' };
const self = { facts: { id: 'a1', mounts: [], life } as unknown as ContainerFacts };

test('a container that a run holds stopped is planned as if it ran; another stopped one is reported', async () => {
  const settings = readSettings({ LIFEBOAT_DESTINATION: '/backups' });
  const plan = async (held: string[]) => {
    const { sources, problems } = await planNow(engine, {
      self,
      project: 'shop',
      settings,
      state: { results: async () => ({}) },
      held: async () => new Set(held),
    });
    return { pre: sources.map(({ pre }) => pre), stopped: problems.some(({ code }) => code === 'CONTAINER_STOPPED') };
  };
  expect(await plan(['c1'])).toEqual({ pre: [['freeze']], stopped: false });
  expect(await plan([])).toEqual({ pre: [undefined], stopped: true });
});
