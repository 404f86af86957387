import { expect, test } from 'vitest';
import { knownProject, planNow } from '../../src/app/self.ts';
import { readSettings } from '../../src/app/settings.ts';
import type { Engine } from '../../src/docker/engine.ts';
import { buildPlan } from '../../src/plan/job.ts';
import type { ContainerFacts } from '../../src/plan/model.ts';
import type { LastResult } from '../../src/run/source-status.ts';
import type { Manifest } from '../../src/store/objects/manifest.ts';

const labels = {
  'com.docker.compose.project': 'shop',
  'com.docker.compose.service': 'web',
  'lifeboat.volumes': 'true',
  'lifeboat.stop': 'true',
  'lifeboat.exec.pre': 'freeze',
};
const engine = {
  listContainers: async () => [{ id: 'c1', labels, networkMode: 'bridge' }],
  inspectContainer: async () => ({
    ...{ id: 'c1', name: 'shop-web-1', imageId: 'i1', running: false, state: 'exited', labels, env: {}, command: [] },
    ...{ restartPolicy: 'no', createdAt: '', startedAt: '', finishedAt: '' },
    mounts: [{ type: 'volume', name: 'media', source: '/s', destination: '/media', writable: true }],
  }),
  inspectImage: async () => ({ labels: {} }),
} as unknown as Engine;
const life = { state: 'running', restartPolicy: 'no', createdAt: '', startedAt: '', finishedAt: '' };
const self = { facts: { id: 'a1', mounts: [], life } as unknown as ContainerFacts };

test('a shared volume keeps the name of its newest snapshot, even if the spool with the known names is lost', async () => {
  const mounts = [{ type: 'volume', name: 'media', source: '/s', destination: '/media', writable: true }];
  const both = ['app', 'web'].map((service) => {
    const own = {
      'com.docker.compose.project': 'shop',
      'com.docker.compose.service': service,
      'lifeboat.volumes': 'media',
    };
    return { id: service, name: `shop-${service}-1`, labels: own, mounts };
  });
  const running = { imageId: 'i1', running: true, env: {}, command: [], ...life };
  const shares = {
    listContainers: async () => both.map(({ id, labels: own }) => ({ id, labels: own, networkMode: 'bridge' })),
    inspectContainer: async (id: string) => ({ ...running, ...both.find((one) => one.id === id) }),
    inspectImage: async () => ({ labels: {} }),
  } as unknown as Engine;
  const snapshot = (...names: string[]) =>
    ({
      trigger: 'schedule',
      sources: Object.fromEntries(names.map((name) => [name, { status: 'ok' }])),
    }) as unknown as Manifest;
  const nameOf = async (results: string[], recorded: () => Promise<Manifest[]>) => {
    const { sources } = await planNow(shares, {
      ...{ self, project: 'shop', settings: readSettings({ LIFEBOAT_DESTINATION: '/backups' }), recorded },
      state: { results: async () => Object.fromEntries(results.map((name) => [name, {} as LastResult])) },
      held: async () => new Set<string>(),
    });
    return sources.map(({ name }) => name);
  };
  const never = () => expect.fail('the spool knows the name');
  expect(await nameOf([], async () => [])).toEqual(['app.media']);
  expect(await nameOf(['web.media'], never)).toEqual(['web.media']);
  expect(await nameOf(['app.media'], never)).toEqual(['app.media']);
  expect(await nameOf(['db.postgres'], async () => [snapshot('db.postgres'), snapshot('web.media')])).toEqual([
    'web.media',
  ]);
  expect(await nameOf([], async () => [snapshot('app.media'), snapshot('web.media')])).toEqual(['app.media']);
  expect(await nameOf([], () => Promise.reject(new Error('unreachable')))).toEqual(['app.media']);
});

test('a container that a run holds stopped is planned as if it ran; another stopped one is reported', async () => {
  const settings = readSettings({ LIFEBOAT_DESTINATION: '/backups' });
  const plan = async (held: string[]) => {
    const { sources, problems } = await planNow(engine, {
      self,
      project: 'shop',
      settings,
      state: { results: async () => ({}) },
      recorded: () => expect.fail('no volume is shared'),
      held: async () => new Set(held),
    });
    return { pre: sources.map(({ pre }) => pre), stopped: problems.some(({ code }) => code === 'CONTAINER_STOPPED') };
  };
  expect(await plan(['c1'])).toEqual({ pre: [{ argv: ['freeze'] }], stopped: false });
  expect(await plan([])).toEqual({ pre: [undefined], stopped: true });
});

test.each([
  ['Compose', { 'com.docker.compose.project': 'shop' }, 'shop', 'shop-node', 'shop'],
  // Each node of a stack stores its snapshots under a project of its own.
  ['a stack', { 'com.docker.stack.namespace': 'shop' }, 'shop', 'shop-node', 'shop-node'],
  ['a stack without the setting', { 'com.docker.stack.namespace': 'shop' }, 'shop', undefined, 'shop'],
  ['docker run', {}, '', undefined, ''],
])('the project of an agent that %s started', (_, own, project, setting, expected) => {
  const facts = { ...self.facts, labels: own, project };
  expect(knownProject({ facts }, setting === undefined ? {} : { project: setting })).toBe(expected);
});

test('a copy of a project that a restore filled is no part of LIFEBOAT_SCOPE=all', () => {
  const container = (project: string) =>
    ({
      ...{ id: project, name: `${project}-web-1`, project, service: 'web', imageId: 'i', running: true, env: {} },
      ...{ labels: { 'lifeboat.volumes': 'true' }, imageLabels: {} },
      mounts: [{ type: 'volume', name: project, source: '/s', destination: '/media', writable: true }],
    }) as ContainerFacts;
  const planOf = (scope: string) =>
    buildPlan({
      ...{ containers: [container('shop'), container('staging')], project: 'shop', configFiles: false },
      ...{ settings: readSettings({ LIFEBOAT_SCOPE: scope }), copies: ['staging', 'gone'] },
    });
  const all = planOf('all');
  expect(all.sources.map(({ name }) => name)).toEqual(['web.shop']);
  expect(all.notes).toEqual([
    { subject: 'staging', message: expect.stringContaining('is a copy that a restore filled') },
  ]);
  expect(planOf('shop,staging').sources).toHaveLength(2);
});
